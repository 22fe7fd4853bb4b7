"""Small pretrained networks with drawn weights, in the files that published ones come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fracast
import torch
from safetensors.torch import save_file

from tsforecast.models.dilated_conv import Fracast


def small_fracast(directory: Path) -> Path:
    """A fracast of 64 rows of context, 16 steps and few channels; its layout is the published one's."""
    config: dict[str, Any] = json.loads((Path(fracast.__file__).parent / "weights/config.json").read_text())
    config["model"] |= {"W": 64, "level_widths": [64], "d_model": 8, "n_stages": 3, "head_d_ff": 8, "horizon": 16}
    config["model"] |= {"future_queries": 1, "head_future_conv_layers": 2}
    torch.manual_seed(0)
    return written(directory, config, Fracast(config))


def written(directory: Path, config: dict[str, Any], network: torch.nn.Module) -> Path:
    """Both files."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, directory / "model.safetensors"
    )
    return directory
