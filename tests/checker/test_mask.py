import string

import pytest

from checker import mask

ALNUM = string.ascii_letters + string.digits
MIXED = "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gI3kM5oQ7sU9wY1bD3"

SECRETS = {
    "openai": "sk-" + MIXED,
    "openai, twenty lower-case letters": "sk-abcdefghijklmnopqrst",
    "openai project": "sk-proj-" + MIXED[:20] + "_" + MIXED[20:40],
    "anthropic": "sk-ant-api03-" + MIXED + "-" + MIXED[:30] + "AA",
    "aws id": "AKIAIOSFODNN7EXAMPLE",
    "aws temporary id": "ASIAIOSFODNN7EXAMPLE",
    "google": "AIza" + MIXED[:35],
    "google, dash at the end": "AIza" + MIXED[:34] + "-",
    "github": "ghp_" + MIXED[:36],
    "github oauth": "gho_" + MIXED[:36],
    "github fine-grained": "github_pat_" + MIXED[:22] + "_" + MIXED + MIXED[:11],
    "slack": "xoxb-123456789012-123456789012-" + MIXED[:24],
    "gitlab": "glpat-" + MIXED[:20],
    "npm": "npm_" + MIXED[:36],
    "pypi": "pypi-AgEIcHlwaS5vcmc" + MIXED * 3,
    "nvidia": "nvapi-" + MIXED + MIXED[:16],
    "wandb": "wandb_v1_" + MIXED,
    "hugging face": "hf_" + (string.ascii_letters * 2)[:34],
    "json web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.SflKxwRJSMeKKF2QT4fwpM",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("around", ["{}", "failed with {} in the header", "({})", 'key="{}",', "x={}\n"])
def test_a_credential_is_masked(secret, around):
    shown = mask.plain(around.format(secret))
    assert mask.SECRET in shown
    assert shown == " ".join(around.format(mask.SECRET).split())


def test_a_private_key_without_an_end_takes_the_rest_with_it():
    assert mask.plain("read -----BEGIN PRIVATE KEY-----\nMIIEow\nabc") == "read [SECRET]"


NAMED = {
    "aws secret": ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key=[SECRET]"),
    "wandb": ("WANDB_API_KEY=" + "0a1b2c3d4e" * 4, "WANDB_API_KEY=[SECRET]"),
    "wandb, as a sentence": ("the api key is " + "0a1b2c3d4e" * 4, "the api key is [SECRET]"),
    "wandb login": ("wandb login " + "0a1b2c3d4e" * 4, "wandb login [SECRET]"),
    "json": ('{"api_key": "0123456789abcdef"}', '{"api_key": "[SECRET]"}'),
    "bearer": ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [SECRET]"),
    "url": ("https://me:hunter2@example.org/repo.git", "https://me:[SECRET]@example.org/repo.git"),
    "password": ("DB_PASSWORD=correcthorse", "DB_PASSWORD=[SECRET]"),
    "the shortest": ("passwd=12345678", "passwd=[SECRET]"),
    "the shortest url": ("://a:b@c", "://a:[SECRET]@c"),
}


@pytest.mark.parametrize(("text", "shown"), NAMED.values(), ids=NAMED.keys())
def test_a_credential_known_by_its_name_is_masked(text, shown):
    assert mask.secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "task-management123456",
        "risk-averse-policy-gradient-0123456789",
        "sk-learn-random-forest-baseline",
        "disk-abcdefghijklmnopqrstuvwxyz",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit 0a1b2c3d4e0a1b2c3d4e0a1b2c3d4e0a1b2c3d4e",
        "run 4fd2a1b39c01",
        "AKIAIOSFODNN7EXAMPLEANDMORE",
        "hf_transformer_large_pretrained_baseline_v2",
        "bearer of bad news, internationalization",
        "https://example.org:8080/a@b",
        "tokens=123456789 token_accuracy=0.98765432",
        "val/loss_epoch",
        "wandb_v1_project_name",
        "npm_install_of_everything_that_there_is_here",
        "pypi-mirror-of-2026",
        "glpat-short",
    ],
)
def test_a_look_alike_stays(text):
    assert mask.plain(text) == text


def test_a_secret_with_something_invisible_inside_is_found():
    assert mask.plain("sk-abcde\u200bfghijklmnop\x00qrstuvwxyz") == mask.SECRET


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("a\x1b", "a"),
        ("a\x07\x08b", "ab"),
        ("one\r\ntwo\tthree\u2028four", "one two three four"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud800 pair", "half \ufffd pair"),
        (None, "None"),
    ],
)
def test_a_terminal_gets_one_harmless_line(text, shown):
    assert mask.plain(text) == shown
    mask.plain(text).encode()


def test_long_text_is_cut_with_an_ellipsis():
    assert mask.plain("x" * 300, 10) == "x" * 9 + "…"
    assert mask.plain("x" * 10, 10) == "x" * 10


def test_a_cut_never_splits_an_escape_and_never_shows_half_a_secret():
    assert mask.markdown("a" * 8 + "<b>", 10) == "a" * 8 + "&lt;…"
    assert "sk-" not in mask.plain("a" * 5 + " sk-" + MIXED, 12)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>&amp;</script>", "&lt;script&gt;&amp;amp;&lt;/script&gt;"),
        ("<!-- checker: end -->", "&lt;!-- checker: end --&gt;"),
        ("`code` *bold* ~~gone~~", r"\`code\` \*bold\* \~\~gone\~\~"),
        ("train_loss", "train_loss"),
        ("_emphasis_", r"\_emphasis\_"),
        ("# heading", r"\# heading"),
        ("- bullet", r"\- bullet"),
        ("> quote", "&gt; quote"),
        ("1. one", r"1\. one"),
        ("12) twelve", r"12\) twelve"),
        ("1.5 is a number", "1.5 is a number"),
        ("-0.5", "-0.5"),
        ("+3 layers", "+3 layers"),
        ("#tag", "#tag"),
        ("=0", "=0"),
        ("---", r"\---"),
        ("===", r"\==="),
        ("+", r"\+"),
        ("1.", r"1\."),
        ("###", r"\###"),
        ("[text](http://x)", r"[text\](http://x)"),
        ("![image](http://x)", r"![image\](http://x)"),
        ("[SECRET]", "[SECRET]"),
        ("```toml\n[a]\n```", r"\`\`\`toml [a] \`\`\`"),
    ],
)
def test_markdown_shows_the_text_as_it_is(text, shown):
    assert mask.markdown(text) == shown


@pytest.mark.parametrize("text", ["a|b", "<b>&amp;", "`x` *y* _z_", "# h", r"back\slash \| pipe", "1. one", "lr=3e-4"])
def test_unescaped_undoes_markdown(text):
    assert mask.unescaped(mask.markdown(text)) == text


def test_xml_is_escaped():
    assert mask.xml('<a href="x">&\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;"
