"""XGBoost's JSON, checked before XGBoost reads it: it trusts every length and index, and dies of a wrong one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

_CATEGORIES = 2**20  # of one column; XGBoost keeps a bit for each
_NODES = ("split_conditions", "split_type", "default_left", "loss_changes", "sum_hessian")
_ROOT = 2**31 - 1  # what the first node has as its parent


def check(raw: bytes) -> None:
    """Raise an error where XGBoost would read or write beyond an array, or for ever.

    Parameters
    ----------
    raw
        A file as `xgboost.Booster.save_raw("json")` writes it.

    Raises
    ------
    ValueError, LookupError, TypeError, OverflowError, RecursionError
        It is damaged, or none.
    """
    learner = json.loads(raw, object_pairs_hook=_unique)["learner"]
    sizes = _sizes(learner["learner_model_param"], "num_feature", "num_class", "num_target")
    booster, outputs = learner["gradient_booster"], max(sizes["num_class"], 1) * sizes["num_target"]
    model = booster.get("gbtree", booster)["model"]  # within, when trees are dropped
    trees, rounds = model["trees"], _integers(model["iteration_indptr"])
    _ensure(
        _sizes(model["gbtree_model_param"], "num_trees")["num_trees"] == len(trees) == rounds[-1],
        len(booster.get("weight_drop", trees)) == len(model["tree_info"]) == len(trees),
        rounds[0] == 0 and np.all(np.diff(rounds) >= 0),
        all(0 <= place < outputs for place in model["tree_info"]),
        [tree["id"] for tree in trees] == list(range(len(trees))),
    )
    for tree in trees:
        _check_tree(tree, sizes["num_feature"], outputs)


def _check_tree(tree: dict[str, Any], features: int, outputs: int) -> None:
    size = _sizes(tree["tree_param"], "num_nodes", "num_feature", "size_leaf_vector")
    links = [_integers(tree[name]) for name in ("left_children", "right_children", "parents", "split_indices")]
    left, right, parents, split = links
    count, vector = size["num_nodes"], size["size_leaf_vector"]
    inner, leaf = np.flatnonzero(left != -1), left == -1
    weights = tree["leaf_weights"] if vector > 1 else tree["base_weights"]
    nodes, first, many, held = (_integers(tree[f"categories{name}"]) for name in ("_nodes", "_segments", "_sizes", ""))
    _ensure(
        count > 0 and size["num_feature"] == features and vector in (1, outputs),
        {len(each) for each in (*links, *(tree[name] for name in _NODES))} == {count},
        len(weights) == (vector * leaf.sum() if vector > 1 else count),
        *(np.all((children[inner] > inner) & (children[inner] < count)) for children in (left, right)),  # no way back
        np.all(right[leaf] == -1) if vector == 1 else np.all((right[leaf] >= 0) & (right[leaf] < leaf.sum())),
        parents[0] in (-1, _ROOT) and np.all((parents[1:] >= 0) & (parents[1:] <= np.arange(count - 1))),
        np.all((split[inner] >= 0) & (split[inner] < features)),
        len(nodes) == len(first) == len(many),
        sorted(nodes) == np.flatnonzero(_integers(tree["split_type"]) == 1).tolist(),
        np.all((many >= 0) & (first >= 0) & (first <= len(held)) & (many <= len(held) - first)),
        np.all((held >= 0) & (held < _CATEGORIES)),
    )


def _ensure(*holds: object) -> None:
    if not all(holds):
        raise ValueError("a file of trees is damaged")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once, so that XGBoost reads the values that are checked."""
    _ensure(len(found := dict(pairs)) == len(pairs))
    return found


def _sizes(texts: dict[str, str], *names: str) -> dict[str, int]:
    """Numbers that XGBoost writes as text, in the digits that it writes."""
    found = {name: int(texts[name]) for name in names}
    _ensure(all(str(found[name]) == texts[name] for name in names))
    return found


def _integers(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)
