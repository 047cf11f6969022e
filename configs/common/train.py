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
    # Iterations between two lines of log, metrics.json and TensorBoard.
    log_period=20,
    # Epochs between two checkpoints or evaluations, or iterations if `period` is set; 0 is only at the end.
    checkpointer=dict(period_epochs=1, period=None, max_to_keep=3),
    evaluation=dict(period_epochs=1, period=None, metric="bbox/AP"),
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False),
)
