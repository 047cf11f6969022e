train = dict(
    output_dir="./output",
    # A checkpoint file, or torchvision://resnet50 for torchvision's ImageNet weights of the backbone.
    init_checkpoint="",
    # "auto" is cuda where there is one.
    device="auto",
    seed=42,
    epochs=50,
    # Iterations, where a run is to be shorter or longer than its epochs say.
    max_iter=None,
    # Largest L2 norm of all gradients together; 0 does not clip.
    clip_grad_norm=0.1,
    # Forward passes per step; total_batch_size stays the number of images per step.
    accumulate_steps=1,
    # "linear" or "sqrt" in total_batch_size / reference_batch_size; null leaves the learning rates alone.
    lr_scaling=dict(rule=None, reference_batch_size=8),
    # "bfloat16" or "float16"; prior, box decoding, matching and losses stay in float32.
    amp=dict(enabled=False, dtype="bfloat16"),
    # torch.compile of backbone, encoder and decoder: minutes at the start, and for a GPU that is worth them.
    compile=False,
    # Averaged weights, evaluated ("bbox_ema/AP") and saved beside the raw ones.
    ema=dict(enabled=False, decay=0.9998),
    # Steps in a row that may be left out for a loss or gradient that is not finite; null is 0, in float16 16.
    skip_nonfinite=None,
    # Iterations between two lines of log, metrics.json and TensorBoard.
    log_period=20,
    # Epochs between two checkpoints or evaluations, or iterations if `period` is set; 0 is only at the end.
    checkpointer=dict(period_epochs=1, period=None, max_to_keep=3),
    # The number that says which model is best; null is "bbox/AP", or "bbox_ema/AP" with ema.
    evaluation=dict(period_epochs=1, period=None, metric=None),
    # Evaluations without a gain of more than min_delta in that number, after which the training ends; null goes on.
    early_stopping=dict(patience=None, min_delta=0.0),
    # Leave report.html at the end: curves, numbers, errors by kind, worst images.
    report=True,
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False),
    # Services that get the lines of metrics.json, too: "wandb", "mlflow".
    writers=[],
    # More of Detectron2's hooks or your own, as [L(MyHook)(...)].
    hooks=[],
)
