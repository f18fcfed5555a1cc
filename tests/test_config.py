from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agent.config.load import load_config, model_settings, named_files
from agent.config.sections import Config, EngineSection
from agent.errors import ConfigError
from agent.model_file.settings import ModelSettings
from agent.sources.capture_options import CaptureOptions, Command

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_example_configuration_has_every_key_with_its_default() -> None:
    example = load_config(REPOSITORY / "configs/agent.yaml").model_dump(exclude={"device"})
    assert example == Config().model_dump(exclude={"device"})
    named = yaml.safe_load((REPOSITORY / "configs/agent.yaml").read_text())
    assert {section: set(keys) for section, keys in named.items()} == {
        section: set(keys) for section, keys in Config().model_dump().items()
    }


def test_demo_configuration_is_valid() -> None:
    config = load_config(REPOSITORY / "configs/demo.yaml")
    assert config.cameras["digits"].source == str(REPOSITORY / "demo/digits.mp4")
    assert config.models.folder == REPOSITORY / ".demo/models"


def test_unknown_key_is_rejected_with_file_line_and_nearest_key(write: Path) -> None:
    assert refusal(write, "http:\n  port: 1\n  prot: 2\n") == (
        f"{write}, line 3: unknown key http.prot; did you mean port?"
    )
    assert refusal(write, "cameras:\n  front:\n    source: '0'\n    modle: a\n") == (
        f"{write}, line 4: unknown key cameras.front.modle; did you mean model?"
    )
    assert refusal(write, "models:\n  settings:\n    a: {meen: 1}\n") == (
        f"{write}, line 3: unknown key models.settings.a.meen; did you mean mean?"
    )


def test_unknown_camera_or_view_of_a_profile_is_rejected_with_line_and_nearest_name(write: Path) -> None:
    cameras = "cameras:\n  front: {source: '0', views: {door: {}}}\n  back: {source: '1'}\nprofiles:\n  night:\n"
    assert refusal(write, f"{cameras}    cameras:\n      back: {{}}\n      frnt: {{}}\n") == (
        f"{write}, line 8: profiles.night.cameras.frnt is not in the configuration; did you mean front?"
    )
    assert refusal(write, f"{cameras}    cameras: {{front: {{views: {{x: {{}}}}}}}}\n") == (
        f"{write}, line 6: profiles.night.cameras.front.views.x is not in the configuration; there are: door."
    )
    assert refusal(write, f"{cameras}    cameras: {{back: {{views: {{x: {{}}}}}}}}\n").endswith("; there are: none.")
    assert refusal(write, f"{cameras}    cameras: {{back: {{max_fsp: 1}}}}\n") == (
        f"{write}, line 6: unknown key profiles.night.cameras.back.max_fsp; did you mean max_fps?"
    )


def test_profiles_are_read_in_the_order_of_the_file(write: Path) -> None:
    write.write_text("profiles: {b: {when: '22:00-06:00'}, a: {when: [sat 10:00-11:00, sun 10:00-11:00]}, c: {}}")
    assert [(name, each.when) for name, each in load_config(write).profiles.items()] == [
        ("b", ["22:00-06:00"]),
        ("a", ["sat 10:00-11:00", "sun 10:00-11:00"]),
        ("c", []),
    ]


def test_unknown_section_or_key_is_rejected_with_the_known_keys(write: Path) -> None:
    assert "known keys: format, level" in refusal(write, "logging:\n  zzz: 1\n")
    assert "line 1: unknown key modles; did you mean models?" in refusal(write, "modles: {}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http: {port: high}", "line 1: http.port"),
        ("http: {port: 70000}", "must be at most 65535, not 70000"),
        ("engine: {workers: 0}", "engine.workers must be 'auto' or at least 1, not 0."),
        ("engine: {workers: many}", "engine.workers must be 'auto' or a whole number, not 'many'."),
        ("cameras: {float: {source: '0', max_fps: x}}", "cameras.float.max_fps must be a number, not 'x'."),
        ("cameras: {a: {source: ''}}", "cameras.a.source must be csi, a camera number, a device, a URL"),
        ("cameras: {a: {source: true}}", "cameras.a.source must be a string"),
        ("cameras: {a: {source: 'RTSP:/10.0.0.5/live'}}", "cameras.a.source is not a valid URL. Use the form rtsp://"),
        ("models: {settings: {a: {labels: [yes, no]}}}", "models.settings.a.labels.0 must be a string"),
        ("models: {settings: {a: {mean: [x, 1, 1]}}}", "models.settings.a.mean.0 must be a number, not 'x'."),
        ("cameras: {front: {}}", "cameras.front has neither the key source nor the key command; add one"),
        ("cameras: {a: {source: 'inbox:'}}", "cameras.a.source must name a folder, such as inbox:/srv/inbox"),
        ("cameras: {a: {source: 'inbox:x', after: burn}}", "cameras.a.after must be keep, delete or move:FOLDER"),
        ("cameras: {a: {source: 'inbox:x', after: 'move:'}}", "cameras.a.after must be keep, delete or move:FOLDER"),
        ("cameras: {a: {source: '0', after: delete}}", "has the key after, but its source is not an inbox"),
        ("cameras: {a: {source: inbox:x}, b: {source: inbox:x}}", "cameras.b.source: this is the inbox of a; give"),
        ("cameras: {'a/b': {source: '0'}}", "may only contain letters"),
        ("cameras: {a: {source: '0', region: [0, 0, 2, 1]}}", "must be [left, top, right, bottom]"),
        ("cameras: {a: {source: '0', rotate: 45}}", "cameras.a.rotate"),
        ("cameras: {a: {source: '0', hold_s: .inf}}", "cameras.a.hold_s must be at most 86400"),
        ("cameras: {a: {source: '0', motion: {forced_every_s: .inf}}}", "forced_every_s must be at most 86400"),
        ("cameras: {a: {source: '0', region: [0, 0, 1, 0.5], views: {b: {}}}}", "give each view its own region"),
        ("cameras: {a: {source: '0', views: {'b/c': {}}}}", "may only contain letters"),
        ("cameras: {a: {source: '0', views: {b: {regionn: 1}}}}", "cameras.a.views.b.regionn; did you mean region?"),
        ("cameras: {a: {source: '0', masks: [[[0, 0], [1, 1]]]}}", "must be at least three corners [x, y]"),
        ("cameras: {a: {source: '0', masks: [[0, 0], [1, 1], [1, 0]]}}", "cameras.a.masks.0 must be a list of corners"),
        ("cameras: {a: {source: '0', masks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]}}", "must not cross itself"),
        ("cameras: {a: {source: '0', masks: [[[0, 0], [1, 1], [2, 0]]]}}", "each a fraction from 0 to 1"),
        ("cameras: {a: {source: '0', motion: {forced_every_s: 0}}}", "cameras.a.motion.forced_every_s must be more"),
        (
            "cameras: {a: {source: inbox:x, views: {b: {motion: {enabled: true}}}}}",
            "cameras.a has motion enabled, but each image of an inbox is classified; remove motion",
        ),
        ("cameras: {a: {source: '0', score_threshold: own}}", "cameras.a.score_threshold must be 'auto'"),
        ("cameras: {a: {source: '0', score_threshold: 1.5}}", "cameras.a.score_threshold"),
        (
            "cameras: {a: {source: '0', leave_threshold: 0.6}}",
            "cameras.a has a leave_threshold above its score_threshold (0.6 > 0.5); lower it",
        ),
        (
            "cameras: {a: {source: '0', leave_threshold: 0.3, views: {b: {}, c: {score_threshold: 0.2}}}}",
            "cameras.a has a leave_threshold of the view c above its score_threshold (0.3 > 0.2); lower it",
        ),
        ("cameras: {upload: {source: '0'}}", "this name is reserved for uploads"),
        ("models: {settings: {a: {mean: [1, 2]}}}", "models.settings.a.mean must be one number, or three"),
        ("models: {settings: {a: {std: 0}}}", "models.settings.a.std"),
        ("mqtt: {base_topic: 'a/#'}", "mqtt.base_topic"),
        ("device: {id: 'a b'}", "device.id"),
        (
            "mqtt: {host: 'mqtt://broker'}",
            "mqtt.host must be a host name or address only; the port goes in mqtt.port",
        ),
        (
            "mqtt: {host: 'broker:1883'}",
            "mqtt.host must be a host name or address only; the port goes in mqtt.port",
        ),
        ("mqtt: {durability: disk}", "mqtt.durability must be 'spill', 'group' or 'none', not 'disk'."),
        ("mqtt: {outbox: {max_bytes: 1000}}", "mqtt.outbox.max_bytes must be at least 1048576, not 1000."),
        ("mqtt: {outbox: {max_age_s: 0}}", "mqtt.outbox.max_age_s must be more than 0"),
        ("mqtt: {websocket_path: mqtt}", "mqtt.websocket_path must be a path such as /mqtt"),
        ("mqtt: {shared_classify: work/images}", "mqtt.shared_classify must be $share/<group>/<topic>"),
        ("mqtt: {ca_file: ca.pem}", "mqtt.ca_file requires TLS: set mqtt.tls to true"),
        ("mqtt: {tls: true, key_file: k.pem}", "mqtt.key_file needs its certificate"),
        ("http: {hosts: ['https://a.example']}", "http.hosts.0 must be a host name such as agent.example.com"),
        ("http: {hosts: [a.example:80]}", "without scheme and port"),
        ("http: {cors: [a.example]}", "http.cors.0 must be an origin such as https://shop.example:8443"),
        ("http: {cors: ['https://a.example/page']}", "without a path"),
        ("http: {trusted_proxies: [nginx]}", "http.trusted_proxies.0 "),
        ("http: {trusted_proxies: [10.0.0.1/8]}", "10.0.0.1/8 has host bits set"),
        ("http: {base_path: edge}", "http.base_path must be a path such as /edge"),
        ("http: {base_path: /a/../b}", "http.base_path must be a path"),
        ("http: {tls_cert: c.pem}", "http.tls_cert needs http.tls_key: set both or remove http.tls_cert"),
        ("http: {tls_key: k.pem}", "http.tls_key needs http.tls_cert"),
        ("http: {client_ca: ca.pem}", "http.client_ca requires TLS: set http.tls_cert and http.tls_key"),
        ("profiles: {auto: {}}", "profiles.auto is reserved: auto means the clock"),
        ("profiles: {a b: {}}", "profiles.a b may only contain letters"),
        (
            "profiles: {a: {when: 22:00}}",
            "profiles.a.when must be times in quotes such as '22:00-06:00', or a list of them, not 1320.",
        ),
        ("profiles: {a: {when: '25:00-06:00'}}", "profiles.a.when must be times such as 22:00-06:00, or days and"),
        ("profiles: {a: {when: ['22:00-06:00', 'mo 1:00-2:00']}}", "mon-fri,sun 22:00-06:00, not 'mo 1:00-2:00'."),
        (
            "profiles: {a: {when: '06:00-06:00'}}",
            "must not begin and end at the same time, as '06:00-06:00' does; the whole",
        ),
        (
            "cameras: {b: {source: '0', leave_threshold: 0.4}}\nprofiles: {a: {cameras: {b: {score_threshold: 0.3}}}}",
            "line 2: profiles.a.cameras.b has a leave_threshold above its score_threshold (0.4 > 0.3); lower it.",
        ),
        ("profiles: {a: {cameras: {b: {max_fps: 0}}}}", "profiles.a.cameras.b.max_fps must be more than 0"),
        ("- 1", "must contain sections"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_invalid_value_is_rejected_in_one_sentence_with_its_key(write: Path, text: str, expected: str) -> None:
    sentence = refusal(write, text)
    assert expected in sentence
    assert str(write) in sentence


def test_names_and_origins_are_compared_as_browsers_send_them(write: Path) -> None:
    write.write_text(
        "http: {hosts: [Edge.Example.], cors: ['HTTPS://Shop.example:443/', 'http://[::1]:3000'], "
        "trusted_proxies: [10.0.0.1, 'fd00::/8'], base_path: /edge/1/}"
    )
    http = load_config(write).http
    assert (http.hosts, http.cors) == (["edge.example"], ["https://shop.example", "http://[::1]:3000"])
    assert not http.is_local  # the clients of the proxy are on other machines
    assert (http.trusted_proxies, http.base_path) == (["10.0.0.1/32", "fd00::/8"], "/edge/1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cameras: {front: /dev/video0}", "cameras.front must be a section with keys such as `source:`, not '/dev/"),
        ("cameras: ['0']", "cameras must be a section with a name for each entry, not ['0']."),
        ("http: 3", "http must be a section with keys such as `host:`, not 3."),
    ],
)
def test_value_in_place_of_a_section_is_rejected_with_an_example_key(write: Path, text: str, expected: str) -> None:
    assert refusal(write, text).startswith(f"{write}, line 1: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http:\n  port: 2001-13-45", ", line 2, column 9, is not valid YAML: '2001-13-45' cannot be read"),
        ("http:\n  port: [", ", line 2, column 10, is not valid YAML: expected the node content"),
        ("http:\n\tport: 1", ", line 2, column 1, is not valid YAML: found character '\\t'"),
        ("[" * 3000, "it is nested too deeply"),
        ("http: \x00", "special characters are not allowed"),
    ],
)
def test_invalid_yaml_is_rejected_with_its_position_and_a_remedy(write: Path, text: str, expected: str) -> None:
    sentence = refusal(write, text)
    assert sentence.startswith(str(write))
    assert expected in sentence
    assert "<unicode string>" not in sentence
    assert any(remedy in sentence for remedy in ("; check ", "; remove ", "; save "))


def test_key_that_is_not_a_string_is_rejected_at_any_depth(write: Path) -> None:
    assert refusal(write, "1: 2\n") == f"{write}, line 1: the key 1 is not a string; put it in quotes."
    assert "line 2: the key on is not a string" in refusal(write, "cameras:\n  on: {source: 0}\n")
    assert "line 1: the key in brackets is not a string" in refusal(write, "[a, b]: 2\n")


def test_duplicate_key_is_rejected_with_both_lines(write: Path) -> None:
    assert refusal(write, "http: {port: 1}\nmqtt: {}\nhttp: {host: a}\n") == (
        f"{write}, line 3: the key http is already used on line 1; merge the two."
    )
    assert "line 2: the key port is already used on line 1" in refusal(write, "http: {port: 1,\n  port: 2}\n")


def test_camera_can_merge_the_keys_of_another_and_override_some(write: Path) -> None:
    write.write_text("cameras:\n  a: &a {source: 0, max_fps: 1}\n  b: {<<: *a, source: 1}\n")
    cameras = load_config(write).cameras
    assert (cameras["b"].source, cameras["b"].max_fps) == ("1", 1)


def test_argument_of_pydantic_is_an_unknown_key(write: Path) -> None:
    for key in ("_env_file", "_env_prefix", "_cli_parse_args"):
        assert f"line 1: unknown key {key}; known keys: device" in refusal(write, f"{key}: a\n")


def test_unknown_key_gets_no_suggestion_when_none_is_similar(write: Path) -> None:
    assert "unknown key foo; known keys:" in refusal(write, "foo: 1\n")
    assert "unknown key cameras.a.foo; known keys:" in refusal(write, "cameras: {a: {source: 0, foo: 1}}\n")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("models: {folder: ~nosuchuser/x}", "models.folder"),
        ("models: {settings: {a: {labels: ~nosuchuser/x}}}", "models.settings.a.labels"),
        ("mqtt: {password_file: ~nosuchuser/x}", "mqtt.password_file"),
        ("cameras: {a: {source: ~nosuchuser/x}}", "cameras.a.source"),
    ],
)
def test_path_in_an_unknown_home_folder_is_rejected_with_its_key(write: Path, text: str, key: str) -> None:
    assert refusal(write, text) == f"{key}: the home folder in ~nosuchuser/x is unknown; write the full path."


def test_folders_of_an_inbox_are_relative_to_the_configuration(write: Path) -> None:
    write.write_text("cameras: {a: {source: inbox:drop, after: 'move:../done'}, b: {source: ./inbox:x}}\n")
    config = load_config(write)
    a, b = config.cameras["a"], config.cameras["b"]
    assert (a.source, a.after) == (f"inbox:{write.parent}/drop", f"move:{write.parent.parent}/done")
    assert b.source == f"{write.parent}/inbox:x"
    files = dict(named_files(config))
    assert files["cameras.a.source"] == write.parent / "drop"
    assert files["cameras.a.after"] == write.parent.parent / "done"


def test_camera_source_can_be_a_number_without_quotes(write: Path) -> None:
    write.write_text("cameras: {a: {source: 0}}\n")
    assert load_config(write).cameras["a"].source == "0"
    assert "cameras.a.source must be a string" in refusal(write, "cameras: {a: {source: -1}}\n")


@pytest.mark.parametrize("password", ["se#same", "se/same", "se?same", "sesame#@", "/sesame"])
def test_camera_url_with_a_bare_special_character_is_rejected_without_showing_it(write: Path, password: str) -> None:
    said = refusal(write, f"cameras:\n  a: {{source: 'rtsp://admin:{password}@cam/live'}}\n")
    assert said.startswith(f"{write}, line 2: cameras.a.source is not a valid URL. In a user name or password, write #")
    assert said.endswith("or use the keys username and password_file.")
    assert "sesame" not in said
    assert "admin" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cameras: {a: {source: 'htp://x:sesame@cam/x'}}", "cameras.a.source has the unknown scheme htp://. Use one"),
        ("cameras: {a: {source: 'http:///x'}}", "cameras.a.source has no host and is not a valid URL."),
        ("cameras: {a: {source: 0, username: x}}", "cameras.a has the key username, but its source is not a URL"),
        ("cameras: {a: {source: 'rtsp://c/x', password_file: x}}", "cameras.a has the key password_file, but no user"),
        ("cameras: {a: 'rtsp://x:sesame@cam/x'}", "not 'rtsp://***@cam/x'"),
        ("cameras: ['rtsp://x:sesame@cam/x']", "not ['rtsp://***@cam/x']"),
        ("cameras: {a: {source: {url: 'rtsp://x:sesame@cam/x'}}}", "not {'url': 'rtsp://***@cam/x'}"),
        ("cameras: {a: {source: 0, model: ['rtsp://x:sesame@cam/x']}}", "not ['rtsp://***@cam/x']"),
        (f"cameras: {{a: 'rtsp://x:{'sesame' * 50}@cam/x'}}", "not 'rtsp://***@cam/x'"),
    ],
)
def test_camera_mistake_is_rejected_without_showing_its_password(write: Path, text: str, said: str) -> None:
    refused = refusal(write, text)
    assert said in refused
    assert "sesame" not in refused


def test_variable_that_is_not_json_is_rejected_without_showing_a_password(
    write: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_CAMERAS", "{front: {source: rtsp://x:sesame@cam/x}}")
    said = refusal(write, "")
    assert "EDGE_AGENT_CAMERAS must be JSON" in said
    assert "sesame" not in said


def test_camera_login_is_read_from_its_keys(write: Path) -> None:
    write.write_text("cameras: {a: {source: 'http://cam/x', username: admin, password_file: secret}}\n")
    camera = load_config(write).cameras["a"]
    assert (camera.username, camera.password_file) == ("admin", write.parent / "secret")
    write.write_text("cameras: {a: {source: 'http://admin@cam/x', password_file: secret}}\n")
    assert load_config(write).cameras["a"].password_file == write.parent / "secret"


def test_wishes_to_a_camera_are_read(write: Path) -> None:
    write.write_text("cameras: {a: {source: 0, size: 1280x720, fps: 15, format: mjpeg, health: {frozen_after_s: 0}}}\n")
    options = load_config(write).cameras["a"].capture_options
    assert options == CaptureOptions(size=(1280, 720), fps=15, format="MJPG", frozen_after_s=0)
    write.write_text("cameras: {a: {source: 'rtsp://cam/x', transport: udp}}\n")
    assert load_config(write).cameras["a"].capture_options == CaptureOptions(transport="udp")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("source: 0, size: large", "cameras.a.size must be width x height in pixels, such as 1280x720"),
        ("source: film.mp4, size: 640x480", "cameras.a has the key size, but its source is not a V4L2 device"),
        ("source: 'rtsp://cam/x', fps: 5", "cameras.a has the key fps, but its source is not a V4L2 device"),
        (
            "source: csi, format: mjpeg",
            "cameras.a has the key format, which a CSI camera does not have; remove the key",
        ),
        ("source: csi, controls: {gain: 1}", "cameras.a has the key controls, which a CSI camera does not have"),
        ("source: 'csi:front'", "cameras.a.source must be csi, or csi:1 for the second camera module"),
        ("source: 0, transport: udp", "cameras.a has the key transport, but its source is not an rtsp:// URL"),
    ],
)
def test_wish_that_a_camera_cannot_fulfill_is_rejected(write: Path, keys: str, said: str) -> None:
    assert said in refusal(write, f"cameras: {{a: {{{keys}}}}}")


def test_command_is_read(write: Path) -> None:
    write.write_text("cameras: {a: {command: {run: [cam, -r, 5, 'rtsp://u:secret@h/x'], format: i420, size: 64x48}}}\n")
    camera = load_config(write).cameras["a"]
    assert camera.origin == Command(("cam", "-r", "5", "rtsp://u:secret@h/x"), "i420", (64, 48))
    shown = camera.model_dump(mode="json")
    assert shown["source"] is None
    assert shown["command"] == {"run": ["cam", "-r", "5", "rtsp://***@h/x"], "format": "i420", "size": "64x48"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("source: 0, command: {run: [cam]}", "cameras.a has the keys command and source, which exclude each other"),
        ("fps: 5, command: {run: [cam]}", "cameras.a has the keys command and fps, which exclude each other"),
        ("command: {}", "cameras.a.command.run is missing; add it."),
        ("command: {run: []}", "cameras.a.command.run must start with a program"),
        ("command: {run: [./cam]}", "cameras.a.command.run must start with a program in PATH, or with its full path"),
        ("command: {run: cam}", "cameras.a.command.run must be a list"),
        ("command: {run: [cam], format: bgr24}", "cameras.a.command has the format bgr24, but no size; add it"),
        ("command: {run: [cam], format: i420, size: 641x480}", "has the format i420, whose width and height are even"),
        ("command: {run: [cam], size: 640x480}", "has the key size, but a JPEG says its own size; remove the key"),
        ("command: {run: [cam], format: bgr24, size: 99999x99999}", "has a size of more than 67108864 pixels"),
        ("command: {run: [cam], format: nv12}", "cameras.a.command.format must be 'mjpeg', 'bgr24' or 'i420'"),
    ],
)
def test_command_that_cannot_be_read_is_rejected(write: Path, keys: str, said: str) -> None:
    assert said in refusal(write, f"cameras: {{a: {{{keys}}}}}")


def test_null_and_empty_sections_mean_the_default(write: Path) -> None:
    write.write_text("device: {id: null}\ncameras:\nmqtt:\nhttp: {port: }\nmodels:\n  settings:\n    a:\n")
    config = load_config(write)
    assert config.device.id == Config().device.id
    assert (config.cameras, config.mqtt, config.http) == ({}, Config().mqtt, Config().http)
    assert "cameras.a has neither the key source nor the key command" in refusal(write, "cameras:\n  a:\n")
    assert "unknown key http.prot" in refusal(write, "http: {prot: }\n")


def test_load_config_names_the_file_when_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The configuration file .* does not exist"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_environment_overrides_the_file(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write.write_text("http: {port: 1000, host: '::1'}\n")
    monkeypatch.setenv("EDGE_AGENT_HTTP__PORT", "2000")
    monkeypatch.setenv("EDGE_AGENT_CAMERAS__FRONT__SOURCE", "0")
    config = load_config(write)
    assert (config.http.port, config.http.host, config.cameras["front"].source) == (2000, "::1", "0")


def test_invalid_variable_is_rejected_by_name(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_HTTP__PORT", "high")
    assert refusal(write, "http: {port: 1}") == (
        "The variable EDGE_AGENT_HTTP__PORT: http.port must be a whole number, not 'high'."
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [("EDGE_AGENT_CAMERAS", "notjson"), ("EDGE_AGENT_HTTP", "abc"), ("EDGE_AGENT_MODELS__SETTINGS", "abc")],
)
def test_variable_for_several_keys_must_be_json(
    write: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refusal(write, "").startswith(f"The variable {variable} must be JSON, such as ")


def test_paths_are_relative_to_the_file(write: Path) -> None:
    write.write_text(
        "models: {folder: m, settings: {a: {labels: a.txt}}}\n"
        "mqtt: {password_file: secret, tls: true, ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}\n"
        "cameras: {v: {source: v.mp4}, d: {source: /dev/video0}, i: {source: '0'}, u: {source: 'rtsp://h/s'}}\n"
    )
    config = load_config(write)
    folder = write.parent
    assert config.models.folder == folder / "m"
    assert config.mqtt.password_file == folder / "secret"
    tls_files = config.mqtt.ca_file, config.mqtt.cert_file, config.mqtt.key_file
    assert tls_files == (folder / "ca.pem", folder / "c.pem", folder / "k.pem")
    assert config.models.settings["a"].labels == folder / "a.txt"
    sources = [camera.source for camera in config.cameras.values()]
    assert sources == [str(folder / "v.mp4"), "/dev/video0", "0", "rtsp://h/s"]


def test_model_settings_read_their_label_files(write: Path) -> None:
    (write.parent / "a.txt").write_text("cat\ndog\n")
    write.write_text("models: {settings: {a: {labels: a.txt, mean: 1, std: [1, 2, 3]}, b: {labels: [x], output: p}}}\n")
    assert model_settings(load_config(write)) == {
        "a": ModelSettings(labels=("cat", "dog"), mean=(1.0,), std=(1.0, 2.0, 3.0)),
        "b": ModelSettings(labels=("x",), output="p"),
    }


def test_missing_label_file_is_rejected_with_its_key(write: Path) -> None:
    write.write_text("models: {settings: {a: {labels: a.txt}}}\n")
    with pytest.raises(ConfigError, match=r"models\.settings\.a\.labels"):
        model_settings(load_config(write))


def test_auto_uses_two_workers_that_share_the_cores() -> None:
    for cores, sizes in ((1, (1, 1)), (2, (2, 1)), (4, (2, 2))):
        assert EngineSection().sizes(cores=cores) == sizes
    assert EngineSection(workers=3, threads=2).sizes() == (3, 2)
    assert EngineSection().sizes()[0] in (1, 2)


def test_bare_off_is_read_as_a_string(write: Path) -> None:
    write.write_text("models: {signatures: off}\nmqtt: {results: off}\n")
    assert load_config(write).models.signatures == "off"
    assert load_config(write).mqtt.results == "off"
