"""Batches whose content follows from (seed, position) alone, so that a loader's state is one number."""

import atexit
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from smca.errors import InputError


class TrainLoader:
    """Endless batches of this process's share of the images.

    Position p of the endless stream is image p mod N of a permutation drawn from (seed, p div N); its augmentation is
    drawn from (seed, p). Iteration i takes the positions [i * total_batch_size, (i + 1) * total_batch_size), split
    evenly over the processes in rank order. So a run that resumes at iteration i sees what it would have seen.
    """

    def __init__(
        self,
        *,
        dataset: Sequence[dict],
        mapper: Callable[[dict], dict],
        total_batch_size: int,
        num_workers: int = 4,
        seed: int = 0,
    ):
        """
        Args:
            dataset: Detectron2's dataset dicts.
            mapper: turns one dict into the model's input.
            total_batch_size: images per step over all processes.
            num_workers: loading processes per process.
            seed: of sample order and augmentation.

        Raises:
            InputError: if the data set is empty or the batch size is no multiple of the number of processes.
        """
        if len(dataset) == 0:
            raise InputError("the training data set has no images")
        check_batch_size(total_batch_size)
        self.num_images = len(dataset)
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.start_iteration = 0
        self._seed = seed
        self._closing: _Flag | None = None
        self._source = _PositionedDataset(DatasetFromList(list(dataset), copy=False), mapper, seed)

    @property
    def iterations_per_epoch(self) -> float:
        return self.num_images / self.total_batch_size

    def __iter__(self) -> Iterator[list[dict]]:
        """From ``start_iteration`` on, without end."""
        sampler = _PositionSampler(
            num_images=self.num_images,
            total_batch_size=self.total_batch_size,
            seed=self._seed,
            start_iteration=self.start_iteration,
        )
        self.close()
        self._closing = _Flag()
        # Before multiprocessing's own, which ends the workers with a signal.
        atexit.register(self._closing.set)
        loader = DataLoader(
            self._source,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            multiprocessing_context=_worker_context(self.num_workers),
            collate_fn=trivial_batch_collator,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_IgnoreSignals(self._closing),
            # Workers' own seeds are never used; this keeps the main process's generator untouched.
            generator=torch.Generator(),
        )
        # A worker inherits this, and so keeps signals waiting until it can handle them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IgnoreSignals.SIGNALS)
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Let the loading processes of the last iterator end; it must not be used any more."""
        if self._closing is not None:
            self._closing.set()
            atexit.unregister(self._closing.set)
            self._closing = None


class _Flag:
    """One bit that processes share; unlike an Event without a lock, which a second signal would wait for."""

    def __init__(self) -> None:
        self._value = multiprocessing.RawValue("b", 0)

    def set(self) -> None:
        self._value.value = 1

    def is_set(self) -> bool:
        return bool(self._value.value)


class _IgnoreSignals:
    """Keeps loading processes alive when a scheduler or a terminal signals the whole group.

    The training process decides when to stop, and needs batches until then.
    """

    SIGNALS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)

    def __init__(self, closing: _Flag):
        self._closing = closing

    def __call__(self, _worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end_if_closing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)

    def _end_if_closing(self, *_signal: object) -> None:
        if self._closing.is_set():
            os._exit(0)


class _PositionSampler(Sampler):
    """Yields this rank's share of each step as a list of (position, image index)."""

    def __init__(self, *, num_images: int, total_batch_size: int, seed: int, start_iteration: int):
        self.num_images = num_images
        self.total_batch_size = total_batch_size
        self.seed = seed
        self.start_iteration = start_iteration

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.total_batch_size // comm.get_world_size()
        position = self.start_iteration * self.total_batch_size + comm.get_rank() * share
        epoch, order = -1, None
        while True:
            batch = []
            for p in range(position, position + share):
                if p // self.num_images != epoch:
                    epoch = p // self.num_images
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
                batch.append((p, int(order[p % self.num_images])))
            yield batch
            position += self.total_batch_size


class _PositionedDataset(Dataset):
    """Maps (position, image index) with the global generators seeded by the position."""

    def __init__(self, dataset: DatasetFromList, mapper: Callable[[dict], dict], seed: int):
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __getitem__(self, item: tuple[int, int]) -> dict:
        position, index = item
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        word = int(np.random.SeedSequence((self.seed, position)).generate_state(1)[0])
        random.seed(word)
        np.random.seed(word)
        # Not torch.manual_seed, which seeds CUDA's generators, too.
        torch.default_generator.manual_seed(word)
        try:
            # Unpickled each time, so the mapper may change it.
            return self.mapper(self.dataset[index])
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])


def check_batch_size(total_batch_size: int, accumulate_steps: int = 1) -> None:
    """Refuse a batch that cannot be divided over processes and passes.

    Raises:
        InputError: if the processes and their forward passes cannot share the images of a step evenly.
    """
    if accumulate_steps < 1:
        raise InputError(f"train.accumulate_steps {accumulate_steps} must be at least 1")
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % (world_size * accumulate_steps):
        passes = f" times {accumulate_steps} forward passes" if accumulate_steps > 1 else ""
        raise InputError(
            f"dataloader.train.total_batch_size {total_batch_size} must be a positive multiple of the "
            f"{world_size} processes{passes}"
        )


def build_test_loader(
    *,
    dataset: Sequence[dict],
    mapper: Callable[[dict], dict],
    batch_size: int = 1,
    num_workers: int = 4,
) -> DataLoader:
    """Every image once, in order, split over the processes in contiguous parts.

    Args:
        dataset: Detectron2's dataset dicts.
        mapper: turns one dict into the model's input.
        batch_size: images per step and process.
        num_workers: loading processes per process.
    """
    start, stop = (
        len(dataset) * rank // comm.get_world_size()
        for rank in (comm.get_rank(), comm.get_rank() + 1)
    )
    share = list(dataset[start:stop])
    return DataLoader(
        # Detectron2 cannot serialise an empty list, which a process has when there are fewer images than processes.
        _MappedDataset(DatasetFromList(share, copy=False, serialize=bool(share)), mapper),
        batch_size=batch_size,
        num_workers=num_workers,
        multiprocessing_context=_worker_context(num_workers),
        collate_fn=trivial_batch_collator,
        pin_memory=torch.cuda.is_available(),
    )


def _worker_context(num_workers: int) -> str | None:
    """Loading processes are forked where that is the custom, also by a training process that was itself spawned.

    Spawned, each of them imports PyTorch and Detectron2 again, which takes seconds and hundreds of megabytes. They
    never touch a GPU, which is what a fork could not share.
    """
    return "fork" if num_workers > 0 and sys.platform == "linux" else None


class _MappedDataset(Dataset):
    """Unlike Detectron2's ``MapDataset`` it never replaces an image for which the mapper returns None."""

    def __init__(self, dataset: DatasetFromList, mapper: Callable[[dict], dict]):
        self.dataset = dataset
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self.mapper(self.dataset[index])
