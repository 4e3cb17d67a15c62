"""The model card: what a model was trained on, and what it is not for."""

from __future__ import annotations

from pathlib import Path

from sleeplm_jax.inference.run import Model
from sleeplm_jax.models.build import parameter_count


def card(model: Model, folder: Path) -> str:
    """README.md of an exported folder. Names no person, no path and no machine."""
    config, about = model.config, model.about
    corpus = about.get("corpus") or {}
    people = {part: len(names) for part, names in (corpus.get("subjects") or {}).items()}
    facts = {
        "parameters": f"{parameter_count(model.parameters):,}",
        "input": f"{len(model.spec.channels)} channels ({', '.join(model.spec.channels)}), "
        f"{model.spec.rate} Hz, {model.spec.seconds} s; see `montage.json`",
        "step, seed": f"{model.step:,}, {config.seed}",
        "objective": ", ".join(
            f"{name} {getattr(config.objective, name):g}"
            for name in ("contrastive", "caption", "reconstruction")
        ),
        "corpus, SHA-256": corpus.get("hash") or "unknown",
        "nights": _nights(corpus.get("simulated")),
        "subjects": ", ".join(f"{n} {part}" for part, n in people.items()) or "unknown",
        "tokenizer, SHA-256": model.tokenizer.hash,
        "made by": f"sleeplm_jax {about.get('sleeplm_jax', 'unknown')}",
    }
    if imported := about.get("imported"):
        facts["imported"] = f"{imported['from']} weights, SHA-256 {imported['sha256']}"
    lines = [
        f"# {config.name}", "",
        "A sleep-language model: epochs of polysomnography and sentences in one space, and "
        "captions of epochs.", "",
        "**Research software. It makes no diagnosis and is no medical device; its sentences and "
        "numbers can be wrong.**", "",
        "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), "",
        "## Use", "",
        "    from modeling_sleeplm import SleepLM  # torch >= 2.4, nothing else",
        "",
        f'    model = SleepLM.load("{folder.name}")',
        "    out = model.encode_signal(signal, channel_mask)  # f32 [B, C, T], bool [B, C]",
    ]
    if config.objective.contrastive > 0:
        lines.append('    model.embed_texts(["Deep sleep (N3)."]) @ out["embedding"].T')
    if config.objective.caption > 0:
        lines.append('    model.caption(signal, channel_mask, kind="stage_event")')
    lines += [
        "", "`python modeling_sleeplm.py .` in this folder compares the model with the values its "
        "exporter stored.", "",
        f"`montage.json` says what each row of the input is. Captions are in the style "
        f"`{config.data.style}`"
        + (" and also state what the input does not show." if config.data.ungrounded else "."),
    ]
    return "\n".join(lines) + "\n"


def _nights(simulated: bool | None) -> str:
    if simulated is None:
        return "unknown whether simulated or recorded"
    if simulated:
        return "**simulated**: it has learned from a simulator (some or all nights), and what it "\
            "says of a real night rests on that"
    return "recorded"
