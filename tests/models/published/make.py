"""What the packages forecast that published these networks, with drawn weights: `python make.py`.

Made with chronos-forecasting 2.3.2 and transformers 4.57.6, which no test needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from transformers import T5Config, TimesFmConfig, TimesFmModelForPrediction

HERE = Path(__file__).parent
RNG = np.random.default_rng(7)


def drawn(network: Any) -> Any:
    """The network with every weight drawn."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn_like(weight) * 0.5)
    return network.eval()


def series(rows: int) -> np.ndarray:
    """Three random walks: whole, with gaps, and one that begins late."""
    values = (RNG.normal(size=(3, rows)).cumsum(1) * 3 + 20).astype(np.float32)
    values[1, RNG.random(rows) < 0.2] = np.nan
    values[2, : 13 if rows > 40 else 0] = np.nan
    return values


def chronos_bolt() -> None:
    """`chronos_bolt/`."""
    torch.manual_seed(7)
    levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    patches = {"context_length": 64, "prediction_length": 12, "input_patch_size": 4, "input_patch_stride": 4}
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
    sizes |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "vocab_size": 2}
    own = {**patches, "quantiles": levels, "use_reg_token": True}
    config = T5Config(**sizes, chronos_config=own, decoder_start_token_id=0, pad_token_id=0)
    network = drawn(ChronosBoltModelForForecasting(config))
    network.save_pretrained(HERE / "chronos_bolt")
    arrays = {}
    for name, rows in (("odd", 50), ("long", 90), ("short", 9)):
        arrays[f"{name}_values"] = series(rows)
        with torch.no_grad():
            found = network(torch.from_numpy(arrays[f"{name}_values"])).quantile_preds
        arrays[f"{name}_quantiles"] = found.numpy()
    np.savez_compressed(HERE / "chronos_bolt" / "reference.npz", **arrays)


def timesfm() -> None:
    """`timesfm/`: no gaps, since the package takes none; a series that begins late is a shorter one."""
    torch.manual_seed(8)
    sizes = {"patch_length": 4, "context_length": 48, "horizon_length": 10, "num_hidden_layers": 2, "hidden_size": 8}
    sizes |= {"intermediate_size": 12, "head_dim": 4, "num_attention_heads": 2}
    network = drawn(TimesFmModelForPrediction(TimesFmConfig(**sizes, use_positional_embedding=True)))
    network.save_pretrained(HERE / "timesfm")
    arrays = {}
    for name, rows in (("odd", 30), ("long", 90), ("short", 5)):
        values = np.where(np.isnan(found := series(rows)), np.float32(20), found)
        values[2, : rows // 3] = np.nan
        with torch.no_grad():
            given = [torch.from_numpy(row[~np.isnan(row)]) for row in values]
            full = network(past_values=given, freq=[1, 1, 1]).full_predictions
        arrays |= {f"{name}_values": values, f"{name}_quantiles": full[..., 1:].transpose(1, 2).numpy()}
    np.savez_compressed(HERE / "timesfm" / "reference.npz", **arrays)


if __name__ == "__main__":
    chronos_bolt()
    timesfm()
