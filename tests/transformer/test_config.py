import pytest

from kinolenta.errors import ConfigError
from kinolenta.transformer import GPTConfig
from tests.transformer.tiny import tiny_config


def test_default_config_round_trips_through_plain_values() -> None:
    config = GPTConfig()
    assert GPTConfig.from_dict(config.to_dict()) == config
    assert GPTConfig.from_dict({**config.to_dict(), "grid": [5, 8, 8]}) == config


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"n_layer": 0}, r"n_layer is 0; it must lie in 1\.\.256\."),
        ({"d_model": 10**9}, "d_model is 1000000000; it must lie in"),
        ({"d_model": 33}, r"d_model \(33\) must be a multiple of n_head \(2\)"),
        ({"d_model": 24}, "d_model / n_head is 12; it must be a multiple of 8"),
        ({"n_head": 4, "n_kv_head": 3}, r"n_head \(4\) must be a multiple of n_kv_head \(3\)"),
        ({"grid": (2, 3)}, r"grid is \[2, 3\]; it must be three sizes"),
        ({"grid": (2, 0, 4)}, "each in 1..1024"),
        ({"code_levels": (3, 4)}, r"code_levels \[3, 4\] multiply to 12, but codebook_size is 60"),
        ({"code_levels": (60, 1)}, "each must lie in 2..4096"),
        ({"rope_theta_text": 1.0}, "rope_theta_text is 1.0; it must be above 1"),
        ({"rope_theta_grid": float("nan")}, "rope_theta_grid is nan"),
        ({"eot_id": 0}, r"five different ids below 40"),
        ({"pad_id": 40}, "five different ids below 40"),
    ],
)
def test_bad_sizes_are_refused_by_a_sentence(sizes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tiny_config(**sizes)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no option 'n_layers'. Did you mean 'n_layer'"):
        GPTConfig.from_dict({"n_layers": 3})
