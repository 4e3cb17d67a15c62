"""What an experiment is made of: frozen dataclasses without JAX.

An experiment is a Python file with `get_config() -> RunConfig`. Every field can be overridden on
the command line by its dotted path (`--optimizer.learning-rate 3e-4`), typed by the dataclass.
`config.validation` says which values fit together, `config.files` reads and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# SleepLM's ten channels in SleepLM's order; EMG is the chin's (reference: SleepLM README).
SLEEPLM_CHANNELS = ("ECG", "ABD", "THX", "AF", "EOG-L", "EOG-R", "C3", "C4", "EMG", "POS")
# Channels kept for captions beside the model's input.
CAPTION_CHANNELS = ("HR", "SpO2")
# What a corpus may hold beyond them: 12- and 16-channel specs choose from all three.
FURTHER_CHANNELS = ("SNORE", "LEG-L", "LEG-R", "F3", "F4", "O1", "O2")
CANONICAL_CHANNELS = SLEEPLM_CHANNELS + CAPTION_CHANNELS + FURTHER_CHANNELS
# What is measured on two channels at once, and needs both, stands under a name of its own.
CHANNEL_PAIRS = {"EOG": ("EOG-L", "EOG-R"), "belts": ("THX", "ABD")}
STAGES = ("W", "N1", "N2", "N3", "R")
UNSCORED, MOVEMENT = -1, -2
# Bits of an artefact mask, the first the lowest: bit i is set for reason ARTEFACTS[i].
ARTEFACTS = ("flat", "clipped", "movement", "pop", "lead_off", "dropout", "mains", "ecg")
# Modality tokens before a text: as many kinds as one text may hold (SleepLM's two slots).
PREFIX_LENGTH = 2
# Rows of SleepLM's modality embedding, in its order.
CAPTION_KINDS = ("brain", "heart", "respiratory", "position_muscle", "stage_event")


@dataclass(frozen=True)
class SignalSpec:
    """Shape of one sample: `[len(channels), rate * seconds]`."""

    channels: tuple[str, ...] = SLEEPLM_CHANNELS
    rate: int = 64  # Hz
    seconds: int = 30

    @property
    def samples(self) -> int:
        return self.rate * self.seconds

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.channels), self.samples


@dataclass(frozen=True)
class CaptionMix:
    """How often each kind of caption is drawn for a sample (relative weights)."""

    stage_event: float = 0.4
    brain: float = 0.15
    heart: float = 0.15
    respiratory: float = 0.15
    position_muscle: float = 0.15

    def weights(self) -> tuple[float, ...]:
        """In the order of CAPTION_KINDS."""
        return tuple(getattr(self, kind) for kind in CAPTION_KINDS)


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from and how they are drawn."""

    corpus: str = "corpora/quickstart"  # folder that `sleeplm prepare` wrote
    # Several corpora in its place, each with its share of the samples: "corpora/shhs=0.7",
    # "corpora/mesa=0.3" (docs/loading.md).
    mixture: tuple[str, ...] = ()
    tokenizer: str = ""  # folder whose tokenizer is used (a corpus, a run); empty: the corpus' own
    # Hours of the training split that are trained on: whole nights, person by person in a fixed
    # order, so that a smaller part lies within a larger one (docs/scaling.md); 0: all.
    unique_hours: float = 0.0
    batch_size: int = 64  # global
    text_length: int = 96  # tokens, bos and eos included
    captions: CaptionMix = CaptionMix()
    style: Literal["default", "sleeplm"] = "default"  # of the captions' words (docs/captions.md)
    # What the captions say of all that is measured (docs/captions.md, Levels): numbers of the whole
    # epoch, changes with times, or words (among them the stage); all: everything but those words.
    level: Literal["all", "statistical", "structural", "semantic"] = "all"
    # Captions also state what the input does not show (SpO2, limb movements, a dropped channel), as
    # the published model's do. For comparison only: it teaches to invent.
    ungrounded: bool = False
    pair_probability: float = 0.25  # two kinds in one text, as SleepLM's two-slot prefix allows
    channel_dropout: float = 0.2  # share of samples that lose a random subset of their channels
    # Montages that a sample may be cut down to in place of a random subset, each a
    # comma-separated list of channels ("C4", "EOG-L,EOG-R,C3"); empty: random subsets.
    dropout_keep: tuple[str, ...] = ()
    # Standard deviation of the log of a random gain per channel and sample, of channels of which
    # the text states no size (docs/loading.md). A night's z-score depends on how much of it was
    # spent awake and moving, so amplitude misleads across cohorts.
    gain_jitter: float = 0.0
    # Largest shift in time, s, of samples whose text is of stage and events (docs/loading.md).
    time_shift: float = 0.0
    # A channel that carries one of these artefacts (of ARTEFACTS) is no input in that epoch, and
    # nothing is said of it. Movement and mains stay: they are what recordings look like.
    mask_artefacts: tuple[str, ...] = ("flat", "lead_off", "dropout")
    workers: int = 2  # loader threads
    # Loader processes in place of threads, for steps that need more samples a second than one core
    # makes (docs/loading.md); 0: threads.
    processes: int = 0
    prefetch: int = 8  # batches


@dataclass(frozen=True)
class EncoderConfig:
    """Signal encoder. `vit2d`: a pre-norm ViT over 2-D patches (channels x samples), missing
    channels masked out of attention. `dual_axis`: SleepLM's, every channel patched by the same
    filters, attention over channels, then over time, post-norm with RMSNorm, rotary positions."""

    kind: Literal["vit2d", "dual_axis"] = "vit2d"
    width: int = 384
    depth: int = 12  # dual_axis: pairs of channel and temporal layers
    heads: int = 6
    mlp: Literal["gelu", "gelu_tanh", "swiglu", "geglu"] = "gelu"  # the last two are gated
    mlp_ratio: float = 4.0
    mlp_bias: bool = True
    qkv_bias: bool = True
    norm_epsilon: float = 1e-5  # torch's default for LayerNorm; SleepLM's RMSNorm has 1e-6
    patch_channels: int = 1
    patch_samples: int = 64
    # Hidden width of a two-layer patch stem; 0 is the plain linear ViT patch. A linear patch
    # cannot tell a rhythm's power from its phase, the stem's nonlinearity can. dual_axis: width
    # of the shared convolution, then linear (no nonlinearity between), as SleepLM's.
    stem_width: int = 0
    # vit2d: one set of filters for all patch rows, as image ViTs (dual_axis always shares).
    shared_filters: bool = False
    # vit2d: one learned vector a row plus one a time, or one for every patch.
    positions: Literal["factored", "full"] = "factored"
    # How tokens become one vector. attention: a query of its own. cascade: SleepLM's, that
    # query's answer attends over the caption tokens. map: attention, then an MLP (SigLIP's).
    pool: Literal["attention", "cascade", "map"] = "attention"
    caption_tokens: int = 32  # attentional-pooling queries handed to the decoder
    # A missing channel is masked out of every attention, or read as zeros (SleepLM's way, whose
    # released weights were trained so).
    missing: Literal["masked", "zeros"] = "masked"
    # In training, on attention weights and in MLPs (SleepLM: 0.1); the reconstruction's too.
    dropout: float = 0.0


@dataclass(frozen=True)
class TextConfig:
    """Unimodal text tower and cross-attending decoder share width and heads (CoCa)."""

    width: int = 384
    depth: int = 6
    decoder_depth: int = 6
    heads: int = 6
    mlp: Literal["gelu", "gelu_tanh", "swiglu", "geglu"] = "gelu"
    mlp_ratio: float = 4.0
    norm_epsilon: float = 1e-5
    attention: Literal["causal", "bidirectional"] = "causal"  # a decoder needs causal tokens
    # What the text embedding is read from. token: a learned last token that sees every real token
    # and itself. shifted: SleepLM's, whose mask lies one place off (it sees one pad, not itself).
    # last: the last position (SigLIP's), no token and no mask.
    summary: Literal["token", "shifted", "last"] = "token"
    # joint: self-attention, cross-attention, one MLP a block. separate: an MLP after each
    # (SleepLM's, open_clip's CoCa).
    decoder: Literal["joint", "separate"] = "joint"


@dataclass(frozen=True)
class ModelConfig:
    spec: SignalSpec = SignalSpec()
    encoder: EncoderConfig = EncoderConfig()
    text: TextConfig = TextConfig()
    embed_dim: int = 256
    # From pooled vector to embedding. none: the pooled vector itself (embed_dim is its width).
    signal_projection: Literal["linear", "affine", "none"] = "linear"
    text_projection: Literal["linear", "affine", "none"] = "linear"
    reconstruction_width: int = 384  # bottleneck from which the epoch is regenerated
    reconstruction_mlp: Literal["gelu", "relu"] = "gelu"
    vocab_size: int = 0  # 0: taken from the corpus' tokenizer when the run starts
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full", "dots"] = "none"
    # The encoder's tokens are split over mesh.tensor between its blocks: for windows of hours.
    split_tokens: bool = False
    # Which kernel attends; auto takes the fastest that this machine's devices can run.
    attention: Literal["auto", "reference", "blockwise", "cudnn", "splash"] = "auto"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the three losses; CoCa's are 1 and 2. A weight of 0 leaves the loss out."""

    contrastive: float = 1.0
    caption: float = 2.0
    reconstruction: float = 0.5
    contrastive_form: Literal["softmax", "sigmoid"] = "softmax"
    # Samples whose captions state the same are positives of one another (else negatives).
    equal_captions: bool = True
    label_smoothing: float = 0.0
    z_loss: float = 0.0  # of the squared log-sum-exp of caption logits (PaLM: 1e-4)
    # Columns of the vocabulary whose logits exist at once; a smaller vocabulary is one chunk.
    vocabulary_chunk: int = 8192
    # raw: the epoch is regenerated from the caption tokens (SleepLM's). masked: in training a share
    # of the patches is hidden from the encoder, and each is told from its token (SimMIM's).
    reconstruction_form: Literal["raw", "masked"] = "raw"
    mask_share: float = 0.5
    position_classes: bool = False  # body position too, as one of five classes


@dataclass(frozen=True)
class ParameterGroup:
    """What the optimiser does differently for parameters whose whole path matches `pattern`."""

    pattern: str = ".*"  # regular expression, e.g. "text/.*"; the first group that matches holds
    rate: float = 1.0  # times the learning rate
    decay: float = 1.0  # times the weight decay
    frozen: bool = False  # keeps its value, and its gradient takes no part in clipping


@dataclass(frozen=True)
class OptimizerConfig:
    kind: Literal["adamw", "lion", "muon"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "wsd", "rsqrt"] = "cosine"
    warmup_steps: int = 100
    cooldown_share: float = 0.2  # wsd, rsqrt: last share of the steps, linear to zero
    weight_decay: float = 0.05  # on matrices only; per step times the learning rate
    beta1: float = 0.9  # lion's papers: 0.9 and 0.99, and a tenth of AdamW's rate
    beta2: float = 0.98
    momentum: float = 0.95  # muon's, for the matrices it orthogonalises; the rest is AdamW's
    clip_norm: float = 1.0
    # Decay of a running mean of the parameters, kept beside them: what held-out losses and
    # inference then read. 0: none.
    ema: float = 0.0
    groups: tuple[ParameterGroup, ...] = ()


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes what is left. Axes of size 1 cost nothing."""

    replica: int = 1
    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclass(frozen=True)
class RunConfig:
    """One training: everything that decides its result, and where it goes."""

    name: str = "run"
    out: str = "runs"  # parent folder; the run's own is <out>/<name>
    seed: int = 0
    steps: int = 1000
    # In place of steps: "20 passes", "2e6 samples", "5000 hours" of sleep, "3000 steps".
    duration: str = ""
    # Run folder whose parameters training starts from (docs/checkpoints.md); empty: drawn anew.
    start_from: str = ""
    # What of it is called otherwise here, "old=new" (regular expressions of parameter paths);
    # "decoder/.*=" leaves out what it holds, to be drawn anew.
    start_from_map: tuple[str, ...] = ()
    # Go on with another corpus or tokenizer than the run's checkpoints are of.
    allow_other_data: bool = False
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    # Parts that a batch is taken in, one after the other, to save memory; the losses are the whole
    # batch's, so the result is the same to float32 rounding.
    micro_batches: int = 1
    # An update whose loss or gradient is no finite number is left out. Then: go on, or stop.
    bad_step: Literal["skip", "stop"] = "skip"
    # A loss above this many times the running mean is bad too; 0: none is.
    spike_factor: float = 0.0
    log_every: int = 10  # steps
    eval_every: int = 250  # steps between held-out evaluations
    eval_samples: int = 1024  # of the validation split, always the same ones
    checkpoint_every: int = 250  # steps
    keep_checkpoints: int = 2  # latest ones, besides the best
    keep_every: int = 0  # steps whose multiples' checkpoints stay for ever; 0: none
    checkpoint_minutes: float = 15.0  # age of the last one that brings a temporary one; 0: none
    tensorboard: bool = True
    # When nothing moved for so long (no step, no held-out batch, no byte of a checkpoint), stacks
    # are written and the process ends with status 124; 0: never.
    watchdog_minutes: float = 30.0
    # Of several processes: seconds for all to come, and without a sign of life from one of them
    # before the others end.
    start_timeout: float = 300.0
    heartbeat: int = 100
    # Project of Weights & Biases that metrics are sent to; empty: nothing leaves the machine.
    wandb: str = ""
    profile_steps: tuple[int, ...] = ()  # first and last step to profile, counted from 1
    # Folder that keeps compiled programs for the next start; empty: the user's cache folder, or of
    # several processes one beside the runs; "off": none.
    compile_cache: str = ""

    @property
    def folder(self) -> str:
        return f"{self.out.rstrip('/')}/{self.name}"
