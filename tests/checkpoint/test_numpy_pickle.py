"""The unpickler of numpy arrays: what it reads, and that nothing else is found, let alone run."""

import io
import os
import pickle
import resource
from collections import OrderedDict

import numpy as np
import pytest
import torch

from smca.checkpoint.reading.numpy_pickle import UnsafePickleError, load_numpy_pickle

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 0, 1),
    "half": np.array([0.5, -2], dtype=np.float16),
    "big_endian": np.array([1, 2, 3], dtype=">i4"),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "scalar_array": np.array(7, dtype=np.int64),
    "scalar": np.float32(1.5),
}


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def write(path, content, protocol=2) -> str:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_arrays_of_any_protocol_and_numpy(protocol, module, tmp_path):
    content = OrderedDict(model=ARRAYS, author="someone", epochs=3, rate=0.1, other=(1, None))
    path = tmp_path / "weights.pkl"
    data = pickle.dumps(content, protocol=protocol)
    if protocol < 4:
        # A longer or shorter name would not fit what newer protocols say of its length.
        data = data.replace(b"numpy._core", module.encode())
    path.write_bytes(data)

    found = load_numpy_pickle(path)

    assert found["author"] == "someone"
    assert (found["epochs"], found["rate"]) == (3, 0.1)
    assert list(found["model"]) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        value = found["model"][name]
        assert value.dtype == expected.dtype, name
        np.testing.assert_array_equal(value, expected)
        assert np.shape(value) == expected.shape
    assert type(found["model"]["float32"]) is np.ndarray
    assert found["model"]["float32"].flags.writeable


def test_strings_of_python_2(tmp_path):
    """Detectron's old files hold arrays whose bytes are Python 2's strings."""
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x00\xc0\xbftbs."
    )
    np.testing.assert_array_equal(load_numpy_pickle(path)["w"], np.array([-1.5], np.float32))


def run_cases(canary: str):
    nested = ARRAYS | {"x": Call(os.system, f"touch {canary}")}
    return {
        "os.system": Call(os.system, f"touch {canary}"),
        "beside arrays": {"model": nested, "__author__": "x"},
        "exec": Call(exec, f"open({canary!r}, 'w')"),
        "eval": Call(eval, f"open({canary!r}, 'w')"),
        "open": Call(open, canary, "w"),
        "getattr": Call(getattr, "a", "upper"),
        "import": Call(__import__, "antigravity"),
        "numpy load": Call(np.load, canary),
        "numpy memmap": Call(np.memmap, canary, "uint8", "w+", 0, (1,)),
        "bound method": Call("touch {}".format, canary),
        "numpy object": {"a": np.array([Call(os.system, f"touch {canary}")], dtype=object)},
    }


@pytest.mark.parametrize("case", run_cases("canary"))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_else_is_called(case, protocol, tmp_path):
    canary = tmp_path / "canary"
    path = write(tmp_path / "bad.pkl", run_cases(str(canary))[case], protocol)
    with pytest.raises(UnsafePickleError) as error:
        load_numpy_pickle(path)
    assert "\n" not in str(error.value)
    assert not canary.exists()


GLOBALS = [
    (b"numpy", b"load"),
    (b"numpy", b"ndarray.tofile"),
    (b"numpy._core.multiarray", b"fromfile"),
    (b"numpy.testing", b"runstring"),
    (b"numpy.testing._private.utils", b"runstring"),
    (b"numpy.f2py.diagnose", b"run"),
    (b"builtins", b"exec"),
    (b"builtins", b"object"),
    (b"__builtin__", b"eval"),
    (b"collections", b"OrderedDict.__class__"),
    (b"collections", b"namedtuple"),
    (b"copyreg", b"_reconstructor"),
    (b"_codecs", b"lookup"),
    (b"functools", b"partial"),
    (b"operator", b"attrgetter"),
    (b"posix", b"system"),
]


@pytest.mark.parametrize(("module", "name"), GLOBALS)
def test_names_that_are_no_part_of_an_array(module, name, tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x04" + b"".join(
        b"\x8c" + bytes([len(text)]) + text for text in (module, name)
    ) + b"\x93.")  # fmt: skip
    with pytest.raises(UnsafePickleError, match="not run"):
        load_numpy_pickle(path)


def test_torch_tensors_belong_into_a_pth(tmp_path):
    path = write(tmp_path / "weights.pkl", {"model": {"a": torch.zeros(2)}})
    with pytest.raises(UnsafePickleError, match=r"holds torch tensors.*\.pth"):
        load_numpy_pickle(path)


def test_text_is_encoded_as_bytes_only(tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
    with pytest.raises(UnsafePickleError, match="rot13"):
        load_numpy_pickle(path)


def test_stand_ins_cannot_be_changed_by_a_file(tmp_path):
    """BUILD with (None, {...}) sets attributes of what is on the stack."""
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"cnumpy\ndtype\n(N}Vcode\nI1\nst" + b"b.")
    with pytest.raises(ValueError, match="no pickle of numpy arrays"):
        load_numpy_pickle(path)
    good = write(tmp_path / "good.pkl", ARRAYS)
    assert list(load_numpy_pickle(good)) == list(ARRAYS)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_pickle_cut_short(share, tmp_path):
    path = tmp_path / "cut.pkl"
    data = pickle.dumps(ARRAYS, protocol=4)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cut off"):
        load_numpy_pickle(path)


def test_a_few_bytes_that_ask_for_gigabytes(tmp_path):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load_numpy_pickle(path) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000


def test_damaged_bytes_end_in_one_sentence(tmp_path):
    """Whatever is damaged, it is read, or refused as ValueError."""
    data = pickle.dumps({"model": ARRAYS}, protocol=2)
    random = np.random.RandomState(0)
    path, messages = tmp_path / "damaged.pkl", []
    for _ in range(300):
        damaged = bytearray(data)
        for position in random.randint(len(data), size=3):
            damaged[position] = random.randint(256)
        path.write_bytes(damaged)
        try:
            load_numpy_pickle(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


def test_python_reads_what_the_test_calls_dangerous():
    """The cases above would run with plain pickle."""
    ran = []
    data = pickle.dumps(Call(ran.append, 1))
    assert pickle.load(io.BytesIO(data)) is None


class State:
    """Pickles as numpy's array or type, with a state that numpy would not write."""

    def __init__(self, made, state):
        self.made, self.state = made, state

    def __reduce__(self):
        function, arguments = self.made.__reduce__()[:2]
        return function, arguments, self.state


FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(
    "state",
    [
        # Fields that lie beyond an element, flags that say it holds Python objects, another size.
        (3, "<", None, ("x",), {"x": (FLOAT, 1000)}, 4, 4, 0),
        (3, "<", (FLOAT, (1000,)), None, None, -1, -1, 0),
        (3, "<", None, None, None, -1, -1, 63),
        (3, "<", None, None, None, 4000, -1, 0),
        (3, "<", None, None, None, -1, -1, 0, {"x": 1}),
        (3, "x", None, None, None, -1, -1, 0),
    ],
)
def test_a_type_of_numbers_that_numpy_does_not_write(tmp_path, state):
    """Our arrays would ignore it; Detectron2's unpickler, which opens the file next, believes it."""
    array = np.zeros(2, FLOAT)
    data = State(array, (1, (2,), State(FLOAT, state), False, array.tobytes()))
    path = write(tmp_path / "forged.pkl", {"model": {"w": data}})
    with pytest.raises(UnsafePickleError, match="as numpy does not"):
        load_numpy_pickle(path)


class Reconstructed:
    def __init__(self, shape, code):
        self.arguments = (np.ndarray, shape, code)

    def __reduce__(self):
        return np.zeros(1).__reduce__()[0], self.arguments


@pytest.mark.parametrize(("shape", "code"), [((1 << 40,), b"b"), ((0,), b"O"), ((0,), b"V100")])
def test_an_array_that_is_made_otherwise(tmp_path, shape, code):
    path = write(tmp_path / "forged.pkl", {"model": {"w": Reconstructed(shape, code)}})
    with pytest.raises(UnsafePickleError, match="as numpy writes it"):
        load_numpy_pickle(path)


def nested(depth, build):
    value = ()
    for _ in range(depth):
        value = build(value)
    return value


class Keyed:
    """A dictionary with a key that must not be hashed when it is written either."""

    def __init__(self, key):
        self.key = key

    def __reduce__(self):
        return OrderedDict, ([(self.key, 1)],)


def test_keys_are_not_hashed_before_they_are_looked_at(tmp_path):
    """Each tuple holds the one before twice: hashing the last takes 2^60 steps."""
    key = nested(60, lambda value: (value, value))
    path = write(tmp_path / "keys.pkl", {"model": Keyed(key)})
    with pytest.raises(UnsafePickleError, match="tuple for a key"):
        load_numpy_pickle(path)
    text = pickle.dumps(key, protocol=2)
    for opcodes in (b"}", b"("):
        end = b"Ns." if opcodes == b"}" else b"Nd."
        (tmp_path / "keys.pkl").write_bytes(text[:2] + opcodes + text[2:-1] + end)
        with pytest.raises(UnsafePickleError, match="tuple for a key"):
            load_numpy_pickle(tmp_path / "keys.pkl")


def test_what_is_shared_stays_shared(tmp_path):
    """A hundred times a hundred times a hundred, in a kilobyte."""
    content = nested(4, lambda value: [value] * 100)
    found = load_numpy_pickle(write(tmp_path / "laughs.pkl", {"model": content}))
    assert found["model"][0] is found["model"][99]


@pytest.mark.parametrize("protocol", [2, 4])
def test_one_text_as_the_content_of_many_arrays(tmp_path, protocol):
    """In a pickle one may be named again and again, in a few bytes each time."""
    array = np.zeros(100_000, np.uint8)
    function, arguments, state = array.__reduce__()
    shared = state[-1]

    class Again:
        def __reduce__(self):
            return function, arguments, (*state[:-1], shared)

    path = tmp_path / "again.pkl"
    path.write_bytes(pickle.dumps({"model": {str(i): Again() for i in range(50)}}, protocol))
    assert path.stat().st_size < 250_000
    with pytest.raises(UnsafePickleError, match="claim several times the bytes"):
        load_numpy_pickle(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_every_protocol_are_within_what_the_file_holds(tmp_path, protocol):
    arrays = {str(i): np.full(1000, 200 + i, np.uint8) for i in range(5)}
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": arrays}, protocol))
    found = load_numpy_pickle(path)["model"]
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
