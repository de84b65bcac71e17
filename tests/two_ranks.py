"""A range test as one of two processes (gloo): its losses and why it ended, into a file. See test_reported_finder.py.

    python tests/two_ranks.py RANK MEETING_POINT OUT
"""
import sys
from datetime import timedelta

import torch
import torch.nn.functional as F
from torch import nn

from cam_course.lr_finder import LRFinder


def main(rank: int, meeting: str, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2,
                                         timeout=timedelta(seconds=60))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
    both = nn.parallel.DistributedDataParallel(net)
    finder = LRFinder(both, torch.optim.SGD(both.parameters(), lr=0.1), F.cross_entropy)
    found = {}
    for name, scale, bad in (("scaled", 1 + 0.5*rank, False), ("nan on one", 1.0, True)):
        batches = [(x[i:i + 8]*scale, y[i:i + 8]) for i in range(rank*32, rank*32 + 32, 8)]
        if bad and rank: batches[2] = (torch.full((8, 8), torch.nan), batches[2][1])
        r = finder.range_test(batches, 1e-4, 1e3, 60, progress=False)
        found[name] = {"loss": r.loss.tolist(), "why": r.stopped_because}
    seeds = finder.over_seeds(2, batches[:2], lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)),
                              num_iter=20, progress=False)
    found["seeds"] = {"loss": [v for r in seeds.results for v in r.loss.tolist()], "why": ""}
    alone = LRFinder(net, torch.optim.SGD(net.parameters(), lr=0.1), F.cross_entropy)   # not wrapped: each for itself
    found["alone"] = {"loss": alone.range_test(batches[:2], num_iter=20 + 5*rank, progress=False).loss.tolist(), "why": ""}
    torch.save(found, out)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
