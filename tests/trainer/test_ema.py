import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.ema import Ema


class Net(nn.Module):
    """Has weights, one of them under two names, and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight = self.token.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("passing", torch.zeros(1), persistent=False)

    def forward(self, x):
        self.calls += 1
        return self.head(self.norm(self.token(x)))

    def get_extra_state(self):
        return {"some": "words"}

    def set_extra_state(self, state):
        pass


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_the_average_is_that_of_the_formula(values, decay):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    ema, expected = Ema(model, decay), 0.0
    for value in values:
        nn.init.constant_(model.weight, value)
        ema.update(model)
        expected = decay * expected + (1 - decay) * value
    assert ema.model.weight.item() == pytest.approx(expected, abs=1e-12)


def trained(steps=3):
    torch.manual_seed(0)
    model = Net()
    ema = Ema(model, 0.75)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    expected = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for _ in range(steps):
        model(torch.tensor([0, 1, 2])).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model)
        for name, weight in model.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * weight.detach()
    return model, ema, expected


def test_a_weight_of_two_names_is_averaged_once_and_buffers_are_taken_as_they_are():
    model, ema, expected = trained()
    for name, weight in ema.model.named_parameters():
        torch.testing.assert_close(weight, expected[name], msg=name)
        assert not weight.requires_grad
    for name, buffer in ema.model.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name]), name
    assert ema.model.calls == 3
    assert ema.model.head.weight is ema.model.token.weight
    assert not torch.equal(ema.model.token.weight, model.token.weight)


def test_an_average_goes_on_from_its_state():
    model, ema, _ = trained()
    other = Ema(Net(), 0.75)
    other.load_state_dict(copy.deepcopy(ema.state_dict()))
    for one in (ema, other):
        one.update(model)
    for name, weight in ema.model.named_parameters():
        assert torch.equal(weight, other.model.get_parameter(name))
    assert torch.equal(ema.model.norm.running_var, other.model.norm.running_var)
