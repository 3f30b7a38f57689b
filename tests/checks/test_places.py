from flows.core.configs.yaml_lines import Places, TextPlace

TEXT = """\
# a comment
model:
  model_name: m
data:
  train:
    datasets:
      - dataset_name: a
        split: x
      - {dataset_name: b}
file_mounts:
  ~/.netrc: ~/x.y
"""


def test_every_key_is_found_under_its_dotted_path() -> None:
    places = Places(TEXT)
    assert places.of("model") == TextPlace(2, 1)
    assert places.of("model.model_name") == TextPlace(3, 3)
    assert places.of("data.train.datasets[0].split") == TextPlace(8, 9)
    assert places.of("data.train.datasets[1].dataset_name") == TextPlace(9, 10)
    assert places.of("file_mounts.~/.netrc") == TextPlace(11, 3)


def test_a_key_that_is_missing_is_placed_at_what_it_is_missing_from() -> None:
    places = Places(TEXT)
    assert places.of("data.train.datasets[1].split") == TextPlace(9, 9)
    assert places.of("model.a.b.c") == TextPlace(2, 1)
    assert places.of("training.max_steps") == TextPlace(2, 1)


def test_a_key_that_is_merged_in_stands_where_it_was_written() -> None:
    places = Places("base: &base\n  a: 1\n  b: 2\nuse:\n  <<: *base\n  a: 3\n")
    assert places.of("use.a") == TextPlace(6, 3)
    assert places.of("use.b") == TextPlace(3, 3)


def test_an_empty_text_has_a_beginning() -> None:
    assert Places("").of("model") == TextPlace(1, 1)
