"""The roll-call of peers: one file each, with its source, its documented limits and a small grid around them."""

from __future__ import annotations

from peers import (
    autotrainer,
    bttackler,
    diagnose_run,
    early_stopping,
    fast_fail,
    floor,
    kill_loss_spike,
    megatron,
    olmo,
    optuna_pruners,
    sagemaker,
    spike_detection,
    terminate_on_nan,
    umlaut,
)
from peers.base import Peer

PEERS: tuple[Peer, ...] = (
    floor.PEER,
    terminate_on_nan.PEER,
    fast_fail.PEER,
    early_stopping.PEER,
    spike_detection.PEER,
    kill_loss_spike.PEER,
    *optuna_pruners.PEERS,
    autotrainer.PEER,
    bttackler.PEER,
    megatron.PEER,
    olmo.PEER,
    sagemaker.PEER,
    umlaut.PEER,
    diagnose_run.PEER,
)
