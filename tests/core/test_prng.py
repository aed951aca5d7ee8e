import itertools

import jax
import numpy as np

from unclip_jax.core.prng import (
    example_keys,
    image_key,
    image_keys,
    root_key,
    stage_key,
    step_key,
)

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
MASK = 0xFFFFFFFF


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011), in Python integers."""
    schedule = (*key, 0x1BD11BDA ^ key[0] ^ key[1])
    x, y = (counter[0] + schedule[0]) & MASK, (counter[1] + schedule[1]) & MASK
    for i in range(20):
        x = (x + y) & MASK
        rotation = ROTATIONS[i % 8]
        y = ((y << rotation | y >> (32 - rotation)) & MASK) ^ x
        if i % 4 == 3:
            n = i // 4 + 1
            x = (x + schedule[n % 3]) & MASK
            y = (y + schedule[(n + 1) % 3] + n) & MASK
    return x, y


def fold(key, *numbers):
    """Folds numbers into a key one after the other: the number is the counter."""
    for number in numbers:
        key = threefry(key, (0, number))
    return key


def words(key):
    return tuple(int(word) for word in jax.random.key_data(key))


def test_the_oracle_itself_against_random123_s_known_answers():
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    assert threefry((MASK, MASK), (MASK, MASK)) == (0x1CB996FC, 0xBB002BE7)


def test_keys_are_threefry_of_their_path():
    """Pins what a seed means, whatever version or default generator of jax is installed."""
    assert words(root_key(5)) == (0, 5)
    assert words(image_key(root_key(5), 7, 1)) == fold((0, 5), 7, 1)
    assert words(step_key(root_key(5), 1000)) == fold((0, 5), 1000)
    assert words(stage_key(root_key(5), 3)) == fold((0, 5), 3)


def test_an_example_s_key_depends_on_its_index_alone():
    key = root_key(3)
    indices = np.array([5, 0, 900_000_000, 17], np.int64)
    together = example_keys(key, indices)
    for i, index in enumerate(indices):
        assert words(together[i]) == fold((0, 3), int(index))
        assert words(example_keys(key, indices[i : i + 1])[0]) == words(together[i])
    traced = jax.jit(example_keys)(key, indices.astype(np.int32))
    assert [words(k) for k in traced] == [words(k) for k in together]


def test_no_two_paths_share_a_key():
    root = root_key(0)
    keys = [
        words(step_key(stage_key(image_key(root, prompt, draw), stage), step))
        for prompt, draw, stage, step in itertools.product(range(3), range(2), range(8), range(4))
    ]
    assert len(set(keys)) == len(keys) == 3 * 2 * 8 * 4


def test_an_image_s_key_is_folded_with_its_prompt_and_then_its_draw():
    root = root_key(0)
    keys = image_keys(root, [3, 0], [1, 2])
    assert [words(key) for key in keys] == [fold(words(root), 3, 1), fold(words(root), 0, 2)]
