"""The same actions for programs: what they return, and what they say about bad input."""

from __future__ import annotations

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from viz.samples import load_samples


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def clip_path():
    return str(load_samples()["two-shapes"].path)


def test_samples(client, studio):
    found = client.predict(api_name="/samples")
    assert [row["id"] for row in found] == list(studio.samples)
    assert "What code is shown?" in found[0]["questions"]


def test_plan_of_an_upload_is_the_core_s(client, studio, clip_path):
    from sttm_core.settings import RunSettings

    found = client.predict(
        video=handle_file(clip_path), num_frames=4, tau_spatial=0.95, tau_temporal=0.9, rules="as_released",
        api_name="/plan",
    )  # fmt: skip
    settings = RunSettings.of(tau_spatial=0.95, tau_temporal=0.9, rules="as_released")
    plan = studio.encoded(studio.open(clip_path, 4), settings).plan(settings)
    assert found["boxes"] == plan.boxes.tolist()
    assert found["tokens"] == {"all": 784, "kept": plan.num_tokens}
    assert found["retention"] == pytest.approx(plan.num_tokens / 784)
    assert sum(found["patch_counts"]) == 784


def test_budget(client):
    first = {}
    for prefer in ("spatial", "temporal"):
        found = client.predict(sample="code-short", num_frames=4, retention=0.25, prefer=prefer, api_name="/plan")
        assert 0.2 < found["retention"] <= 0.25
        first[prefer] = found["tau_spatial"]
    assert first["spatial"] < first["temporal"]


def test_inspect(client):
    found = client.predict(sample="code-short", num_frames=4, api_name="/inspect")
    assert len(found["times"]) == len(found["images"]["stage"]) == 4
    assert found["tree"]["height"] == 14


def test_ask(client):
    found = client.predict(sample="code-short", question="What code is shown?", num_frames=4, runs=1, api_name="/ask")
    for column in ("baseline", "merged"):
        assert found[column]["ttft_s"] == pytest.approx(sum(found[column]["timings_s"].values()))
    assert found["tokens"]["kept"] < found["tokens"]["all"] == 784
    assert found["merged"]["kv_bytes"] < found["baseline"]["kv_bytes"]


BAD = (
    ("/plan", {"num_frames": 4}, "Give a video file or the id of a sample."),
    ("/plan", {"sample": "none", "num_frames": 4}, "There is no sample 'none'"),
    ("/plan", {"sample": "code-short", "num_frames": 0}, "num_frames must be a whole number from 1 to 32, got 0."),
    ("/plan", {"sample": "code-short", "num_frames": 4, "tau_spatial": 9}, "tau_spatial must be a number from -1 to 2"),
    (
        "/plan",
        {"sample": "code-short", "num_frames": "abc"},
        "num_frames must be a whole number from 1 to 32, got 'abc'",
    ),
    (
        "/ask",
        {"sample": "code-short", "question": "x", "tau_temporal": "abc"},
        "tau_temporal must be a number from -1 to 2",
    ),
    ("/plan", {"sample": "code-short", "num_frames": 4, "rules": "mine"}, "rules must be one of"),
    (
        "/plan",
        {"sample": "code-short", "num_frames": 4, "merge_layer": 99},
        "merge_layer must be a whole number from 0",
    ),
    ("/plan", {"sample": "code-short", "num_frames": 4, "retention": 0}, "retention must be a number above 0"),
    ("/plan", {"sample": "code-short", "num_frames": 4, "prefer": "time"}, "prefer must be one of balanced, spatial"),
    ("/ask", {"sample": "code-short", "num_frames": 4, "question": " "}, "question is empty"),
    ("/ask", {"sample": "code-short", "num_frames": 4, "question": "x", "runs": 0}, "runs"),
)


@pytest.mark.parametrize("name, given, sentence", BAD)
def test_bad_input_is_one_sentence(client, name, given, sentence):
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name=name)
    assert sentence in str(caught.value)
    assert "Traceback" not in str(caught.value) and "/" not in str(caught.value).replace("thresholds/", "")


def test_an_upload_is_checked_by_decoding_it(client, tmp_path):
    (tmp_path / "film.mp4").write_text("just words")
    with pytest.raises(AppError, match="film.mp4 is not a video that can be read"):
        client.predict(video=handle_file(str(tmp_path / "film.mp4")), num_frames=4, api_name="/plan")


DOCUMENTED = {"samples", "inspect", "plan", "ask"}


def posted(address: str, name: str, body: str) -> tuple[int, str]:
    """Status and text of a raw call by name; the answer's stream where the call was taken."""
    url = f"{address.rstrip('/')}/gradio_api/call/{name}"
    reply = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=60)
    if reply.status_code != 200:
        return reply.status_code, reply.text
    return 200, httpx.get(f"{url}/{reply.json()['event_id']}", timeout=60).text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"abc"', "[0.5]", "{}", "true", "9" * 400])
@pytest.mark.parametrize("place, argument", [(3, "tau_spatial"), (4, "tau_temporal"), (2, "num_frames")])
def test_a_raw_request_with_no_number_is_told_which_argument(address, value, place, argument):
    data = ["null", '"code-short"', "4", "0.9", "0.8", "null", '"paper"', "2", '"balanced"', '"sttm"']
    data += ['"kept"', "null", '""']
    data[place] = value
    status, text = posted(address, "plan", f'{{"data": [{", ".join(data)}]}}')
    assert status == 200 and f"{argument} must be a " in text and "event: error" in text
    assert "Traceback" not in text and "site-packages" not in text


def test_only_what_is_documented_can_be_called_by_name(address, client):
    config = httpx.get(f"{address}config", timeout=60).json()
    named = {row["api_name"] for row in config["dependencies"] if row["api_name"]}
    assert named == DOCUMENTED and len(config["dependencies"]) > 20
    documented = httpx.get(f"{address}gradio_api/info", timeout=60).json()["named_endpoints"]
    assert {name.strip("/") for name in documented} == DOCUMENTED
    with pytest.raises(ValueError, match="Cannot find a function"):
        client.predict(api_name="/another_video")


@pytest.mark.parametrize(
    "name",
    ["answers", "sample", "upload", "ladder", "run", "page", "film", "history_updates", "false", "False", "js_fn"],
)
@pytest.mark.parametrize("route", ["call", "run", "api", "call/v2"])
def test_the_page_s_own_functions_have_no_name(address, name, route):
    body = {} if route == "call/v2" else {"data": []}
    reply = httpx.post(f"{address}gradio_api/{route}/{name}", json=body, timeout=60)
    assert reply.status_code >= 400, reply.text
    assert "Traceback" not in reply.text and "/" not in reply.text


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py"])
def test_a_path_on_the_server_is_refused(client, path):
    with pytest.raises(Exception, match=".") as caught:
        client.predict(video={"path": path, "meta": {"_type": "gradio.FileData"}}, num_frames=4, api_name="/plan")
    assert "root:" not in str(caught.value) and "not a video" not in str(caught.value)
