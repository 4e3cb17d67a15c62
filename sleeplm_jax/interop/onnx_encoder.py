"""The signal encoder of an exported folder as ONNX, for runtimes without PyTorch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path

from sleeplm_jax.interop.packages import need

NAME, OPSET = "encoder.onnx", 20


def export_encoder(folder: Path) -> Path:
    """Writes `folder`/encoder.onnx; returns it.

    Inputs `signal f32 [B, C, T]`, `channel_mask bool [B, C]`, B free; outputs `features [B, F]`
    and, where the model has them, `caption_tokens [B, Q, D]` and `embedding [B, E]`.
    """
    torch = need("torch", "--onnx")
    need("onnxscript", "--onnx")
    # The folder's own copy: what is traced is what was exported.
    spec = importlib.util.spec_from_file_location("modeling", folder / "modeling_sleeplm.py")
    modeling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(modeling)
    model = modeling.SleepLM.load(folder)
    channels, samples = len(model.config["model"]["spec"]["channels"]), (
        model.config["model"]["spec"]["rate"] * model.config["model"]["spec"]["seconds"]
    )

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, signal, channel_mask):
            out = self.model.encode_signal(signal, channel_mask)
            return {name: out[name] for name in NAMES if name in out}

    with torch.no_grad():
        example = torch.zeros(2, channels, samples), torch.ones(2, channels, dtype=torch.bool)
        outputs = list(Encoder()(*example))
        batch = torch.export.Dim("batch")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own parts; what it makes is checked in tests
            torch.onnx.export(
                Encoder().eval(), example, str(folder / NAME), dynamo=True, opset_version=OPSET,
                input_names=["signal", "channel_mask"], output_names=outputs, verbose=False,
                dynamic_shapes={"signal": {0: batch}, "channel_mask": {0: batch}},
            )
    return folder / NAME


NAMES = ("features", "caption_tokens", "embedding")
