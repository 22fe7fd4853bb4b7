"""XGBoost's UBJ files, checked before XGBoost reads them: it trusts every length and index, and dies of a wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CATEGORIES = 2**20  # of one column; XGBoost keeps a bit for each
_DEPTH = 12
_NODES = ("split_conditions", "split_type", "default_left", "loss_changes", "sum_hessian")
_ROOT = 2**31 - 1  # what the first node has as its parent


def check(raw: bytes) -> None:
    """Raise an error where XGBoost would read or write beyond an array, or for ever.

    Parameters
    ----------
    raw
        A file as `xgboost.Booster.save_raw("ubj")` writes it: Universal Binary JSON.

    Raises
    ------
    ValueError, LookupError, TypeError
        It is damaged, or none.
    """
    value, end = _value(raw, 0)
    learner, booster = value["learner"], value["learner"]["gradient_booster"]
    sizes = {name: int(learner["learner_model_param"][name]) for name in ("num_feature", "num_class", "num_target")}
    model = booster.get("gbtree", booster)["model"]  # within, when trees are dropped
    trees, rounds, outputs = model["trees"], model["iteration_indptr"], max(sizes["num_class"], 1) * sizes["num_target"]
    _ensure(
        end == len(raw),
        int(model["gbtree_model_param"]["num_trees"]) == len(trees) == len(model["tree_info"]) == rounds[-1],
        len(booster.get("weight_drop", trees)) == len(trees),
        rounds[0] == 0 and np.all(np.diff(rounds) >= 0),
        all(0 <= place < outputs for place in model["tree_info"]),
    )
    for tree in trees:
        _check_tree(tree, sizes["num_feature"], outputs)


def _check_tree(tree: dict[str, Any], features: int, outputs: int) -> None:
    size = {name: int(value) for name, value in tree["tree_param"].items()}
    left, right, parents, split = (
        tree[name] for name in ("left_children", "right_children", "parents", "split_indices")
    )
    count, inner, leaf = size["num_nodes"], np.flatnonzero(left != -1), left == -1
    vector = size["size_leaf_vector"]
    weights = tree["leaf_weights"] if vector > 1 else tree["base_weights"]
    nodes, first, many, held = (
        tree[f"categories{name}"].astype(np.int64) for name in ("_nodes", "_segments", "_sizes", "")
    )
    _ensure(
        count > 0 and size["num_feature"] == features and vector in (1, outputs),
        {len(each) for each in (left, right, parents, split, *(tree[name] for name in _NODES))} == {count},
        len(weights) == (vector * leaf.sum() if vector > 1 else count),
        *(np.all((children[inner] > inner) & (children[inner] < count)) for children in (left, right)),  # no way back
        np.all(right[leaf] == -1) if vector == 1 else np.all((right[leaf] >= 0) & (right[leaf] < leaf.sum())),
        parents[0] in (-1, _ROOT) and np.all((parents[1:] >= 0) & (parents[1:] <= np.arange(count - 1))),
        np.all((split[inner] >= 0) & (split[inner] < features)),
        len(nodes) == len(first) == len(many),
        sorted(nodes) == np.flatnonzero(tree["split_type"] == 1).tolist(),
        np.all((many >= 0) & (first >= 0) & (first <= len(held)) & (many <= len(held) - first)),
        np.all((held >= 0) & (held < _CATEGORIES)),
    )


def _ensure(*holds: object) -> None:
    if not all(holds):
        raise ValueError("a file of trees is damaged")


def _value(raw: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    kind, at = raw[at : at + 1], at + 1
    _ensure(depth < _DEPTH)
    if kind == b"S":
        return _text(raw, at)
    if kind == b"{":
        values: dict[str, Any] = {}
        while raw[at : at + 1] != b"}":
            name, at = _text(raw, at)
            _ensure(name not in values)
            values[name], at = _value(raw, at, depth + 1)
        return values, at + 1
    if kind != b"[":
        found, at = _numbers(raw, at, kind, 1)
        return found[0], at
    if raw[at : at + 1] == b"$":
        count, end = _length(raw, at + 2)
        return _numbers(raw, end, raw[at + 1 : at + 2], count)
    count, at = _length(raw, at)
    items = []
    for _ in range(count):
        item, at = _value(raw, at, depth + 1)
        items.append(item)
    return items, at


def _numbers(raw: bytes, at: int, kind: bytes, count: int) -> tuple[np.ndarray, int]:
    dtype = np.dtype(_NUMBERS[kind])
    return np.frombuffer(raw, dtype, count, at), at + count * dtype.itemsize


def _length(raw: bytes, at: int, sign: bytes = b"#L") -> tuple[int, int]:
    at += len(sign)
    count = int.from_bytes(raw[at : at + 8])
    _ensure(raw[at - len(sign) : at] == sign, count <= len(raw) - at)
    return count, at + 8


def _text(raw: bytes, at: int) -> tuple[str, int]:
    count, at = _length(raw, at, b"L")
    return raw[at : at + count].decode(), at + count
