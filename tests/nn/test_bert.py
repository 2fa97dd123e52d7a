"""BERT: layer by layer as torch's own post-LN encoder, whatever is padded; and its tokenizers on whatever is typed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from backline.nn.bert import (
    ROBERTA_BASE,
    Bert,
    BertConfig,
    BertError,
    TextTokens,
    load_bert,
    mean_pooled,
    our_names,
    read_config,
    read_tokenizer,
)

TINY = BertConfig(2, 32, 4, 64, 99, 40, 2, 1, 1e-5)


def network() -> Bert:
    torch.manual_seed(0)
    return Bert(TINY).eval()


def published(bert: Bert) -> dict[str, torch.Tensor]:
    """Its tensors as Hugging Face's transformers names them."""
    own = bert.state_dict()
    names = {
        "words.weight": "embeddings.word_embeddings.weight", "places.weight": "embeddings.position_embeddings.weight",
        "types.weight": "embeddings.token_type_embeddings.weight", "norm.weight": "embeddings.LayerNorm.weight",
        "norm.bias": "embeddings.LayerNorm.bias", "pooler.weight": "pooler.dense.weight",
        "pooler.bias": "pooler.dense.bias",
    }  # fmt: skip
    inner = {
        "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
        "mixed": "attention.output.dense", "heard": "attention.output.LayerNorm", "wide": "intermediate.dense",
        "narrow": "output.dense", "said": "output.LayerNorm",
    }  # fmt: skip
    for layer in range(TINY.layers):
        for ours, theirs in inner.items():
            for kind in ("weight", "bias"):
                names[f"layers.{layer}.{ours}.{kind}"] = f"encoder.layer.{layer}.{theirs}.{kind}"
    return {names[name]: tensor for name, tensor in own.items()}


def test_layers_are_those_of_torchs_own_encoder() -> None:
    bert = network()
    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", TINY.epsilon, batch_first=True, norm_first=False)
    oracle = nn.TransformerEncoder(layer, TINY.layers, enable_nested_tensor=False).eval()
    own = bert.state_dict()
    for number in range(TINY.layers):
        name = f"layers.{number}."
        for kind in ("weight", "bias"):
            given = {
                "self_attn.in_proj_" + kind: torch.cat([own[f"{name}{x}.{kind}"] for x in ("query", "key", "value")]),
                "self_attn.out_proj." + kind: own[f"{name}mixed.{kind}"],
                "linear1." + kind: own[f"{name}wide.{kind}"],
                "linear2." + kind: own[f"{name}narrow.{kind}"],
                "norm1." + kind: own[f"{name}heard.{kind}"],
                "norm2." + kind: own[f"{name}said.{kind}"],
            }
            oracle.layers[number].load_state_dict(given, strict=False)
    tokens, mask = torch.randint(99, (3, 7)), torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    places = bert.places.weight[2:9]  # RoBERTa counts from 2
    with torch.no_grad():
        embedded = bert.norm(bert.words(tokens) + places + bert.types.weight[0])
        wanted = oracle(embedded, src_key_padding_mask=~mask)
        found = bert(tokens, mask)
    assert torch.allclose(found[mask], wanted[mask], atol=1e-5)


def test_what_is_padded_changes_nothing() -> None:
    bert = network()
    tokens, mask = torch.randint(99, (2, 9)), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    with torch.no_grad():
        both = mean_pooled(bert(tokens, mask), mask)
        alone = mean_pooled(bert(tokens[1:, :5], mask[1:, :5]), mask[1:, :5])
    assert torch.allclose(both[1:], alone, atol=1e-5)
    assert torch.allclose(both.norm(dim=-1), torch.ones(2))


def test_published_tensors_are_read_with_or_without_what_a_task_adds() -> None:
    bert = network()
    tensors = published(bert)
    named = {f"roberta.{name}": tensor for name, tensor in tensors.items() if "pooler" not in name}
    named |= {"lm_head.bias": torch.zeros(99), "roberta.embeddings.position_ids": torch.arange(40)}
    tokens, mask = torch.randint(99, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        wanted = bert(tokens, mask)
        for given in (tensors, named, bert.state_dict()):
            assert torch.equal(load_bert(given, TINY)(tokens, mask), wanted)
        assert torch.equal(load_bert(tensors, TINY).pooled(wanted), bert.pooled(wanted))
    assert our_names(tensors).keys() == bert.state_dict().keys()


def test_weights_that_do_not_fit_are_named() -> None:
    tensors = published(network())
    del tensors["encoder.layer.1.output.dense.bias"]
    with pytest.raises(BertError, match=r"layers\.1\.narrow\.bias \[32\] is missing"):
        load_bert(tensors, TINY)


def test_sizes_come_from_the_published_file() -> None:
    table = {
        "model_type": "roberta", "hidden_act": "gelu", "num_hidden_layers": 12, "hidden_size": 768,
        "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 50_265, "max_position_embeddings": 514,
        "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    assert read_config(json.dumps(table).encode()) == ROBERTA_BASE
    with torch.device("meta"):
        # roberta-base has 124,645,632 parameters, as transformers counts them without the head.
        assert sum(weight.numel() for weight in Bert(ROBERTA_BASE).parameters()) == 124_645_632
    assert ROBERTA_BASE.longest == 512
    for wrong in ({"hidden_act": "relu"}, {"model_type": "t5"}, {"num_hidden_layers": 10**9}, {"hidden_size": 700}):
        with pytest.raises(BertError):
            read_config(json.dumps(table | wrong).encode())
    for data in (b"", b"[]", b"\xff", b"{}"):
        with pytest.raises(BertError, match="take it from"):
            read_config(data)


def word_pieces(folder: Path) -> Path:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "bass", "##line", "hi", "-", "hat", "u"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return folder


def test_word_pieces_of_whatever_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    tokens = TextTokens(read_tokenizer(word_pieces(tmp_path)), longest=8)
    texts = ["The BASSLINE", "hi-hat", "", "\x00\x07\n\t", "🎸" * 128, "\ufffd\u202e", "Ü", "the " * 200]
    found, mask = tokens(texts)
    assert found.shape == mask.shape == (8, 8)
    rows = [row[kept].tolist() for row, kept in zip(found, mask, strict=True)]
    assert rows[:4] == [[2, 5, 6, 7, 3], [2, 8, 9, 10, 3], [2, 3], [2, 3]]
    assert rows[4] == [2, 1, 3]  # one word of 512 bytes, which nobody knows
    assert rows[6] == [2, 11, 3]
    assert rows[7] == [2, *[5] * 6, 3]  # cut off


def test_byte_pairs_have_their_ends_and_no_unknown(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    trained = library.ByteLevelBPETokenizer()
    trained.train_from_iterator(["the bass the bassline"] * 3, 300, 1, False, ["<s>", "<pad>", "</s>"])
    trained.save_model(str(tmp_path))
    tokens = TextTokens(read_tokenizer(tmp_path), longest=ROBERTA_BASE.longest)
    found, mask = tokens(["the bass", "", "🎸" * 128, "\x00"])
    rows = [row[kept].tolist() for row, kept in zip(found, mask, strict=True)]
    assert all(row[0] == 0 and row[-1] == 2 for row in rows)
    assert rows[1] == [0, 2]
    assert len(rows[2]) == 512  # every byte is a token, and the last ones do not fit
    assert len(rows[3]) == 3


def test_a_place_without_a_tokenizer_says_what_would_do(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(BertError, match=r"vocab\.txt"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BertError, match="take it from"):
        read_tokenizer(tmp_path)
