"""The tables of a recipe. They are the one source: reading, flags, JSON Schema and docs/recipe.md come from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "SEEING_SAMPLES",
    "Activations",
    "Data",
    "Dtype",
    "Finetune",
    "Gates",
    "Granularity",
    "InputSpec",
    "Language",
    "Law",
    "LogMel",
    "Model",
    "Override",
    "Preprocess",
    "Prune",
    "Quantize",
    "Recipe",
    "Rounder",
    "Table",
    "Targets",
    "Weights",
]

Dtype = Literal["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def _says(description: str, *, path: bool = False, argument: str = "", **limits: Any) -> msgspec.Meta:
    """What a key means and may be; ``path``: a file or folder, relative to the recipe."""
    return msgspec.Meta(description=description, extra={"path": path, "argument": argument}, **limits)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class InputSpec(Table, frozen=True):
    """One model input: dimensions (a name is a dynamic dimension) and element type."""

    shape: Annotated[list[int | str], _says("dimensions; a name makes that one dynamic")]
    dtype: Annotated[Dtype, _says("element type")] = "float32"

    def __post_init__(self) -> None:
        if any(d < 1 if isinstance(d, int) else not d for d in self.shape):
            raise ValueError("a shape needs integers >= 1 and names that are not empty")


class Model(Table, frozen=True):
    """Where the model comes from."""

    source: Annotated[
        str, _says("module:callable, model.pt2, model.onnx or a checkpoint folder", min_length=1, path=True)
    ]
    checkpoint: (
        Annotated[
            str, _says("weights for module:callable: .pt, .pth, .th or .safetensors", path=True, argument="checkpoint")
        ]
        | None
    ) = None
    inputs: Annotated[dict[str, InputSpec], _says("shape and dtype of each input, by name")] = {}


class LogMel(Table, frozen=True):
    """Log-mel spectrogram of a waveform: [samples] -> [1, mels, frames] (natural log of power + 1e-6)."""

    sample_rate: Annotated[int, _says("samples per second", ge=1)]
    n_fft: Annotated[int, _says("window and FFT length, samples", ge=2)] = 256
    hop: Annotated[int, _says("step between frames, samples", ge=1)] = 128
    mels: Annotated[int, _says("number of mel bands", ge=1)] = 40
    fmin: Annotated[float, _says("lowest frequency, Hz", ge=0)] = 20.0
    fmax: Annotated[float, _says("highest frequency, Hz; default half the sample rate", gt=0)] | None = None

    def __post_init__(self) -> None:
        top = self.sample_rate / 2 if self.fmax is None else self.fmax
        if not self.fmin < top <= self.sample_rate / 2:
            raise ValueError(f"fmin {self.fmin:g} < fmax {top:g} <= sample_rate / 2 does not hold")


class Preprocess(Table, frozen=True):
    """From a raw sample to the model's input; applied in the order of the fields."""

    source_layout: (
        Annotated[Literal["NHWC", "NCHW"], _says("how the data lies; the model's own layout is its shape")] | None
    ) = None
    length: Annotated[int, _says("pad with zeros or cut to this many samples", ge=1)] | None = None
    resize: (
        Annotated[
            list[Annotated[int, msgspec.Meta(ge=1)]], _says("height and width, pixels", min_length=2, max_length=2)
        ]
        | None
    ) = None
    scale: Annotated[float, _says("multiplies the raw values")] = 1.0
    log_mel: Annotated[LogMel, _says("log-mel spectrogram of a waveform")] | None = None
    mean: Annotated[list[float] | float, _says("subtracted, one number or one per channel")] = 0.0
    std: Annotated[list[float] | float, _says("divides, one number or one per channel")] = 1.0

    def __post_init__(self) -> None:
        if 0 in (self.std if isinstance(self.std, list) else [self.std]):
            raise ValueError("std must not be 0")
        lengths = {len(v) for v in (self.mean, self.std) if isinstance(v, list)}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError("mean and std must have one number per channel, both as many")


class Data(Table, frozen=True):
    """Calibration and evaluation samples and how a sample becomes an input."""

    calibration: Annotated[str, _says(".npz, folder of images or wavs, text, or module:callable", path=True)] | None = (
        None
    )
    evaluation: Annotated[str, _says("the same, with labels", path=True)] | None = None
    metric: Annotated[
        Literal["top1", "top5", "cosine", "mse", "spearman"],
        _says("of the first output and the labels; spearman: of one number a sample, or of embeddings of pairs"),
    ] = "top1"
    calibration_samples: Annotated[int, _says("samples used at most", ge=1)] = 512
    evaluation_samples: Annotated[int, _says("samples used at most", ge=1)] = 2000
    batch_size: Annotated[int, _says("samples in one run of the float model", argument="batch_size", ge=1)] = 8
    preprocess: Annotated[dict[str, Preprocess], _says("from raw sample to input, by input name")] = {}


Weights = Literal[
    "int8", "int7", "int6", "int5", "int4", "int3", "int2", "ternary", "binary",
    "nf4", "nf3", "kmeans4", "kmeans3", "kmeans2", "float16", "float",
]  # fmt: skip
Activations = Literal["int8", "int16", "dynamic", "float"]
Granularity = Literal["channel", "tensor"] | Annotated[int, msgspec.Meta(ge=16, le=1024)]
Rounder = Literal["auto", "nearest", "mse", "hqq", "gptq", "adaround", "brecq"]
SEEING_SAMPLES = frozenset({"gptq", "adaround", "brecq"})  # rounders that look at what a layer reads


class Override(Table, frozen=True):
    """Other wishes for some nodes; the last one that matches and names a key wins."""

    match: Annotated[str, _says("node name, weight name or operator, with * (fnmatch)", min_length=1)]
    weights: Annotated[Weights, _says("width of the weights")] | None = None
    activations: Annotated[Activations, _says("width of the activations")] | None = None
    granularity: Annotated[Granularity, _says("one weight scale per this")] | None = None
    symmetric: Annotated[bool, _says("zero points of weights are 0")] | None = None
    rounder: Annotated[Rounder, _says("how weights are rounded")] | None = None


class Quantize(Table, frozen=True):
    """How the numbers are chosen. weights and activations = "float" leave the model in float."""

    weights: Annotated[Weights, _says("width or codebook of the weights")] = "int8"
    activations: Annotated[
        Activations,
        _says(
            "int8: from calibration; int16: the same, for NPUs and DSPs, on a CPU slower than float; dynamic: int8, "
            "anew in each run"
        ),
    ] = "int8"
    embeddings: Annotated[
        Literal["auto", "int8", "int4", "int2", "float16", "float"],
        _says("width of look-up tables; auto: int8, and int4 where weights have 4 bits or fewer"),
    ] = "auto"
    granularity: Annotated[
        Granularity, _says("one weight scale per this; a number: per so many inputs of a linear layer")
    ] = "channel"
    symmetric: Annotated[bool, _says("zero points of weights are 0; default where it costs nothing")] | None = None
    observer: Annotated[
        Literal["minmax", "percentile", "mse", "entropy"], _says("how a range comes from what was seen")
    ] = "minmax"
    rounder: Annotated[Rounder, _says("how weights are rounded; auto: what serves their width best")] = "auto"
    bias_correction: Annotated[
        bool, _says("biases make up for the mean error of their layer; gptq, adaround and brecq always do so")
    ] = False
    io: Annotated[Literal["float32", "int8", "int16"], _says("type of the artifacts' inputs and outputs")] = "float32"
    keep_float: Annotated[list[str], _says("nodes that stay in float: name patterns (fnmatch)")] = []
    passes: Annotated[
        list[Literal["equalize", "smooth", "rotate"]],
        _says(
            "before quantization, in order: cross-layer equalization, SmoothQuant (of outputs too), Hadamard rotation"
        ),
    ] = []
    override: Annotated[list[Override], _says("other wishes for some nodes")] = []


class Prune(Table, frozen=True):
    """Fewer weights before quantization, where ``method`` is given; with finetune.data the rest is trained after it."""

    method: (
        Annotated[
            Literal["channels", "magnitude", "1:2", "2:4", "1:4", "4:8"],
            _says(
                "channels: removed; magnitude: single weights set to 0; N:M, all but N of M in a row", argument="prune"
            ),
        ]
        | None
    ) = None
    amount: Annotated[
        float, _says("share to remove: of the multiply-adds, or of the weights", argument="prune_amount", gt=0, lt=1)
    ] = 0.3
    multiple: Annotated[
        int, _says("channels go by so many at a time: kernels compute by 16", argument="prune_multiple", ge=1)
    ] = 16
    epochs: Annotated[int, _says("of training in float after it; 0: none", argument="prune_epochs", ge=0)] = 8


class Finetune(Table, frozen=True):
    """Training of the quantized model, where ``data`` is given."""

    data: Annotated[str, _says("training samples, as data.calibration", path=True, argument="finetune")] | None = None
    samples: Annotated[int, _says("samples used at most", argument="finetune_samples", ge=2)] = 50_000
    epochs: Annotated[int, _says("times through the samples; 0: none", argument="epochs", ge=0)] = 8
    batch_size: Annotated[int, _says("samples in one step", argument="finetune_batch_size", ge=1)] = 64
    learning_rate: Annotated[float, _says("of Adam, in units of each weight's size", gt=0)] = 1e-3
    distillation: (
        Annotated[
            float, _says("share of the loss that is the float model's; default 0.5, without class labels 1", ge=0, le=1)
        ]
        | None
    ) = None
    temperature: Annotated[float, _says("at which class scores are compared", gt=0)] = 2.0
    augment: Annotated[list[Literal["flip", "shift"]], _says("of images: mirrored, moved by up to an eighth")] = []
    held_out: Annotated[float, _says("share of the samples that decide which epoch is best", ge=0, le=0.5)] = 0.1
    threads: Annotated[
        int, _says("of torch; another number gives other weights", argument="finetune_threads", ge=1)
    ] = 2
    patience: Annotated[int, _says("epochs without a better one after which it ends; 0: never", ge=0)] = 5
    checkpoint: (
        Annotated[
            str,
            _says("written after each epoch; a run that was ended goes on", path=True, argument="finetune_checkpoint"),
        ]
        | None
    ) = None


class Language(Table, frozen=True):
    """For a language model: model.source is then a checkpoint folder, and the data are text files."""

    context: (
        Annotated[int, _says("tokens that the cache holds; default what the model was made for, 2048 at most", ge=2)]
        | None
    ) = None
    prefill: Annotated[
        list[Annotated[int, msgspec.Meta(ge=2)]], _says("tokens of one call of each prefill signature (TFLite)")
    ] = msgspec.field(default_factory=lambda: [64])
    window: Annotated[int, _says("tokens of one evaluation or calibration window", ge=2)] = 256
    windows: Annotated[int, _says("evaluation windows at most, spread over the text", ge=1)] = 64
    calibration_windows: Annotated[int, _says("calibration windows at most", ge=1)] = 64


class Law(Table, frozen=True):
    """kbit law: a family of models at every width."""

    members: Annotated[
        list[str], _says("the models, smallest first: checkpoint folders, module:callable or .onnx", path=True)
    ] = []
    checkpoints: Annotated[list[str], _says("weights of each module:callable, in the same order", path=True)] = []
    bits: Annotated[list[float], _says("1, 1.58 (ternary), 2 to 8, 16 (float16)", min_length=1)] = msgspec.field(
        default_factory=lambda: [1, 1.58, 2, 3, 4, 5, 6, 8, 16]
    )
    groups: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, le=1024)]],
        _says("weights that share a scale; 0: those of an output channel", min_length=1),
    ] = msgspec.field(default_factory=lambda: [32])
    budgets: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1)]], _says("file sizes to recommend a model for, bytes")
    ] = []


class Targets(Table, frozen=True):
    """What the artifacts are for."""

    names: Annotated[list[str], _says("devices; kbit targets lists them", min_length=1, argument="target")] = (
        msgspec.field(default_factory=lambda: ["host"])
    )
    runtimes: Annotated[list[Literal["onnxruntime", "tflite"]], _says("one artifact for each", min_length=1)] = (
        msgspec.field(default_factory=lambda: ["onnxruntime", "tflite"])
    )

    prefer: Annotated[
        Literal["speed", "size"],
        _says("where one costs the other: 4-bit convolutions in TFLite are slow, and their outputs may be a step off"),
    ] = "speed"

    def __post_init__(self) -> None:
        if len(set(self.runtimes)) < len(self.runtimes) or len(set(self.names)) < len(self.names):
            raise ValueError("a name stands twice in a list")


class Gates(Table, frozen=True):
    """What must hold for exit code 0; a gate that is not given is not judged."""

    max_drop: (
        Annotated[float, _says("points of the metric that an artifact may lose against the float model", ge=0)] | None
    ) = None
    min_agreement: (
        Annotated[float, _says("share of samples on which the artifacts give the same top-1", ge=0, le=1)] | None
    ) = None
    max_latency_ms: Annotated[float, _says("median latency of one sample, ms", gt=0)] | None = None
    max_latency_p95_ms: Annotated[float, _says("95th percentile of the latency, ms", gt=0)] | None = None
    max_load_ms: Annotated[float, _says("loading the file into its runtime, ms", gt=0)] | None = None
    max_temperature_c: Annotated[float, _says("highest temperature of the device meanwhile, °C", gt=0)] | None = None
    max_divergence: (
        Annotated[float, _says("mean KL divergence of a language model from its float model, nats", ge=0)] | None
    ) = None
    max_first_token_ms: (
        Annotated[float, _says("median time of a language model from a prompt to its first token, ms", gt=0)] | None
    ) = None
    min_decode_rate: Annotated[float, _says("tokens a second that a language model writes", gt=0)] | None = None
    max_bytes: Annotated[int, _says("size of each artifact, bytes", ge=1)] | None = None
    max_peak_bytes: Annotated[int, _says("peak resident memory of the run, bytes", ge=1)] | None = None


class Recipe(Table, frozen=True):
    """The whole run."""

    model: Model
    data: Data = Data()
    quantize: Quantize = Quantize()
    prune: Prune = Prune()
    finetune: Finetune = Finetune()
    language: Language = Language()
    law: Law = Law()
    targets: Targets = Targets()
    gates: Gates = Gates()
    name: Annotated[str, _says("name of the bundle; default from the source")] | None = None
    seed: Annotated[int, _says("of everything random", ge=0)] = 0
