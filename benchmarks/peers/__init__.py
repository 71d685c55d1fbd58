"""One file per library beside which a gradient step is timed; `PEERS` is the order of the table, this project first."""

from __future__ import annotations

from benchmarks.peers import hessian_kernel, phe_rows, phe_statistics, sf_heu, tenseal_ckks
from benchmarks.peers.peer import Peer

PEERS: tuple[Peer, ...] = (
    hessian_kernel.HessianKernel(),
    phe_statistics.PheStatistics(rerandomised=True),
    phe_statistics.PheStatistics(rerandomised=False),
    phe_rows.PheRows(floats=False),
    phe_rows.PheRows(floats=True),
    sf_heu.SfHeu(),
    tenseal_ckks.TensealRotations(),
    tenseal_ckks.TensealPerWeight(),
)
