"""Several processes as one run: who is who, what they tell each other, how the model is spread over them."""

from trainer.distributed.parallel import Parallel, choose_parallel
from trainer.distributed.world import RankLost, World, open_world, rank_and_size

__all__ = ["Parallel", "RankLost", "World", "choose_parallel", "open_world", "rank_and_size"]
