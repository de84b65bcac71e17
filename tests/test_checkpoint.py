"Checkpoints: round trips, torn and edited files, hostile files."

import pickle
import subprocess
import sys
import warnings

import pytest
import torch

from cam_course.base.checkpoints import (
    Checkpoints,
    _pack_state,
    _unpack_state,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
)
from cam_course.base.core import DataError

STATE = {
    "model": {"w": torch.randn(3, 2), "count": torch.tensor(7), "empty": torch.empty(0)},
    "optimizer": {"state": {0: {"m": torch.randn(4).to(torch.bfloat16)}, 5: {}}, "lr": 0.1 + 0.2},
    "history": [{"loss": 1e-300, "lr": 5}, {}],
    "none": None,
    "flag": True,
    "text": "ß",
}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_round_trip_is_exact(tmp_path):
    save_checkpoint(tmp_path / "1.safetensors", STATE)
    assert same(load_checkpoint(tmp_path / "1.safetensors"), STATE)


def test_equal_tensors_make_equal_files(tmp_path):
    "In other processes too: safetensors shuffles the header's texts anew in each."
    code = "import sys, torch; from cam_course.base.checkpoints import write_tensors; "
    code += "print(write_tensors(sys.argv[1], {'b': torch.arange(3.), 'a': torch.ones(2, 2)}, 'about', 'some text: ß'))"
    commands = ([sys.executable, "-c", code, str(tmp_path/f"{i}.safetensors")] for i in range(4))
    told = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands}
    assert len(told) == 1 and len({(tmp_path/f"{i}.safetensors").read_bytes() for i in range(4)}) == 1
    tensors, texts = read_tensors(tmp_path/"0.safetensors")
    assert tensors["a"].equal(torch.ones(2, 2)) and tensors["b"].equal(torch.arange(3.)) and texts == {"about": "some text: ß"}


def test_channels_last_and_shared_tensors(tmp_path):
    w = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "1.safetensors", {"a": w, "b": w, "c": w[0]})
    back = load_checkpoint(tmp_path / "1.safetensors")
    assert back["a"].equal(w) and back["b"].equal(w) and back["c"].equal(w[0])


def test_objects_are_refused_by_name():
    with pytest.raises(TypeError, match="/model/thing, a set"):
        _pack_state({"model": {"thing": {1}}})


def test_every_optimizer_of_torch_round_trips():
    for make in (
        torch.optim.SGD,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.RMSprop,
        torch.optim.Adam,
        torch.optim.AdamW,
    ):
        p = torch.nn.Parameter(torch.randn(3))
        optimizer = make([p], lr=0.01)
        for _ in range(3):
            p.grad = torch.randn(3)
            optimizer.step()
        skeleton, tensors = _pack_state(optimizer.state_dict())
        other = make([p], lr=0.5)
        other.load_state_dict(_unpack_state(skeleton, tensors))
        assert same(_pack_state(other.state_dict())[1], tensors)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 100, -1])
def test_torn_files_are_data_errors(tmp_path, cut):
    path = tmp_path / "1.safetensors"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="torn or not a checkpoint"):
        load_checkpoint(path)


def test_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "1.safetensors"
    save_checkpoint(path, {"w": torch.arange(4.0), "step": 12})
    raw = path.read_bytes()
    for i in range(len(raw)):
        edited = bytearray(raw)
        edited[i] ^= 1
        path.write_bytes(bytes(edited))
        try:
            state = load_checkpoint(path)
        except DataError:
            continue
        # a flip in the JSON padding or in the spelling of the header may change nothing that is read
        assert state["w"].tolist() == [0, 1, 2, 3] and state["step"] == 12, i


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "000000001.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError):
        load_checkpoint(path)
    torch.save({"w": Bomb()}, path)
    with pytest.raises(DataError):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_latest_keeps_two_and_steps_over_damage(tmp_path):
    store = Checkpoints(tmp_path / "c")
    assert store.latest() is None
    for step in (1, 2, 3):
        store.save(step, {"step": step})
    assert [int(f.stem) for f in store.files()] == [2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.latest()["step"] == 3
    store.files()[1].write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="000000003.*going on from 000000002"):
        assert store.latest()["step"] == 2
    store.files()[0].write_bytes(b"")
    with pytest.raises(DataError, match="start the run again"):
        store.latest()
