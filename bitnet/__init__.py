"""Run ternary (1.58-bit, BitNet) language models, compiled for this model and this CPU.

>>> import bitnet
>>> with bitnet.load() as model:
...     print(model.generate("Once upon a time", seed=1).text)
"""

from bitnet.engine import SamplingParams, Timings, TokenLogprobs
from bitnet.errors import (
    BitNetError,
    BoundsError,
    CodegenError,
    CompileError,
    ContextLengthExceededError,
    DownloadError,
    GenerationError,
    GenerationTimeoutError,
    InvalidArgumentError,
    InvalidModelError,
    ModelClosedError,
    ModelFileError,
    ModelMemoryError,
    ModelNotFoundError,
    UnsupportedModelError,
    UnsupportedOperationError,
    UnsupportedTargetError,
)
from bitnet.evaluation import Divergence, Evaluation, Score
from bitnet.generation import Completion, Generation, Token
from bitnet.loading import bundled_model_path, load
from bitnet.model import Model
from bitnet.models import ModelSpec
from bitnet.program.memory import MemoryBudget

__version__ = "0.1.0"

__all__ = [
    "BitNetError",
    "BoundsError",
    "CodegenError",
    "CompileError",
    "Completion",
    "ContextLengthExceededError",
    "Divergence",
    "DownloadError",
    "Evaluation",
    "Generation",
    "GenerationError",
    "GenerationTimeoutError",
    "InvalidArgumentError",
    "InvalidModelError",
    "MemoryBudget",
    "Model",
    "ModelClosedError",
    "ModelFileError",
    "ModelMemoryError",
    "ModelNotFoundError",
    "ModelSpec",
    "SamplingParams",
    "Score",
    "Timings",
    "Token",
    "TokenLogprobs",
    "UnsupportedModelError",
    "UnsupportedOperationError",
    "UnsupportedTargetError",
    "__version__",
    "bundled_model_path",
    "load",
]
