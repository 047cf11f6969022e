from .complexity import (
    PARTS,
    Complexity,
    analyze,
    build_on_meta,
    count_activation_bytes,
    count_multiply_adds,
    count_parameters,
)
from .experiment import Experiment, Latency, analyze_experiments, input_size, measure_latencies
from .paper import DETR, PAPER, RELEASED, PaperResult, ReleasedResult, time_ratio
from .table import as_data, describe_environment, format_tables

__all__ = [
    "DETR",
    "PAPER",
    "PARTS",
    "RELEASED",
    "Complexity",
    "Experiment",
    "Latency",
    "PaperResult",
    "ReleasedResult",
    "analyze",
    "analyze_experiments",
    "as_data",
    "build_on_meta",
    "count_activation_bytes",
    "count_multiply_adds",
    "count_parameters",
    "describe_environment",
    "format_tables",
    "input_size",
    "measure_latencies",
    "time_ratio",
]
