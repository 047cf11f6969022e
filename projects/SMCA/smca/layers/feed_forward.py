from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """The transformer's position-wise network: Linear, ReLU, dropout, Linear."""

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.linear2(self.dropout(F.relu(self.linear1(x))))
