import gc
import multiprocessing
import random

import pytest
import torch

from trainer import data, spec
from trainer.data.loader import Loader
from trainer.data.plan import Position
from trainer.data.samples import Tensors

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Scored(Tensors):
    def __init__(self, count):
        super().__init__(torch.arange(count), torch.arange(count) * 10)

    def scores(self):
        return self.inputs.float()


class Broken(Scored):
    def batch(self, numbers):
        if 3 in numbers.tolist():
            raise RuntimeError("values.csv:17: the record has changed on disk")
        return super().batch(numbers)


def options(workers, **over):
    base = {"train": {"steps": 30, "batch_size": 3}, "loading": {"workers": workers}}
    return spec.build(spec.laid_over(base, over), where="test")


def stream(loader, steps):
    return [[(*part.inputs.tolist(), part.share) for part in loader.next_group(step)] for step in steps]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "over",
    [{}, {"train": {"accumulate": 2}}, {"curriculum": {"start": 0.2}, "train": {"accumulate": 3}}],
    ids=["plain", "accumulate", "curriculum"],
)
def test_what_comes_does_not_depend_on_who_fetches_it(workers, over):
    alone = Loader(Scored(20), options(0, **over), Position())
    positions, expected = [], []
    for step in range(1, 31):
        positions.append(alone.position)
        expected += stream(alone, [step])
    ahead = Loader(Scored(20), options(workers, **over), Position())
    assert stream(ahead, range(1, 11)) == expected[:10]
    assert ahead.position == positions[10]  # what was taken, not what is fetched
    for stop in random.Random(workers).sample(range(30), 6):
        ahead.position = Position(positions[stop].epoch, positions[stop].index)
        assert stream(ahead, range(stop + 1, min(stop + 4, 31))) == expected[stop : stop + 3]
    ahead.close()
    fresh = Loader(Scored(20), options(workers, **over), positions[17])
    assert stream(fresh, range(18, 31)) == expected[17:]
    fresh.close()


def test_random_numbers_stay_what_they_are_without_processes():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loader = Loader(Scored(20), options(1), Position())
    stream(loader, [1, 2])
    loader.close()
    assert torch.equal(before, torch.get_rng_state())


def test_processes_end_when_the_loader_is_closed():
    loader = Loader(Scored(20), options(2), Position())
    stream(loader, [1])
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    gc.collect()
    assert multiprocessing.active_children() == []
    assert stream(loader, [2])


def test_what_a_process_runs_into_is_told():
    loader = Loader(Broken(20), options(1), Position())
    with pytest.raises(RuntimeError, match=r"values.csv:17: the record has changed on disk"):
        stream(loader, range(1, 30))
    loader.close()


@pytest.mark.parametrize("kind", ["text", "csv"])
def test_files_are_read_by_the_processes(tmp_path, kind):
    path = tmp_path / "data"
    path.write_text("x,t\n" + "".join(f"{number},{number % 3}\n" for number in range(200)))
    more = {"text": {}, "csv": {"features": ["x"], "target": "t"}}[kind]
    model = {"text": {"kind": "gpt", "context": 8, "width": 16}, "csv": {"kind": "mlp"}}[kind]
    over = {"data": {"kind": kind, "path": str(path), **more}, "model": model}
    found = data.load(options(0, **over))
    streams = []
    for workers in (0, 2):
        loader = Loader(found.train, options(workers, **over), Position())
        streams.append(torch.cat([part.inputs for step in range(1, 9) for part in loader.next_group(step)]))
        loader.close()
    assert torch.equal(*streams)
