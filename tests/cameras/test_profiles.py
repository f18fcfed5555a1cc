from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import anyio
import pytest
from agents.heard import Heard

from agent.cameras.profiles import Profiles, due, local_time
from agent.config.profiles import ProfileCameraSection, ProfileSection
from agent.config.window import Window
from agent.errors import ProfileNotFoundError
from agent.status import ProfileStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

NIGHT = {"night": ProfileSection(when=["22:00-06:00"], cameras={"front": ProfileCameraSection(score_threshold=0.7)})}
MINUTE = timedelta(minutes=1)


def changes(profiles: Mapping[str, ProfileSection], zone: str, begin: datetime, hours: int) -> list[str]:
    """Each change of the due profile, with the time in UTC and on the wall; looked at every minute."""
    found, before, now = [], due(profiles, begin.astimezone(ZoneInfo(zone))), begin
    for _ in range(hours * 60):
        now += MINUTE
        local = now.astimezone(ZoneInfo(zone))
        active = due(profiles, local)
        if active != before:
            found.append(f"{now:%H:%M} UTC, {local:%a %H:%M}: {active}")
            before = active
    return found


def utc(year: int, month: int, day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("zone", "begin", "expected"),
    [
        ("Europe/Berlin", utc(2026, 3, 28), ["21:00 UTC, Sat 22:00: night", "04:00 UTC, Sun 06:00: None"]),  # 7 h
        ("Europe/Berlin", utc(2026, 10, 24), ["20:00 UTC, Sat 22:00: night", "05:00 UTC, Sun 06:00: None"]),  # 9 h
        ("Australia/Sydney", utc(2026, 10, 3, 2), ["12:00 UTC, Sat 22:00: night", "19:00 UTC, Sun 06:00: None"]),  # 7 h
        ("Australia/Sydney", utc(2026, 4, 4, 2), ["11:00 UTC, Sat 22:00: night", "20:00 UTC, Sun 06:00: None"]),  # 9 h
        ("UTC", utc(2026, 2, 28), ["22:00 UTC, Sat 22:00: night", "06:00 UTC, Sun 06:00: None"]),
    ],
)
def test_profile_follows_the_clock_on_the_wall_when_daylight_saving_changes(
    zone: str, begin: datetime, expected: list[str]
) -> None:
    assert changes(NIGHT, zone, begin, 23) == expected


def test_window_in_the_hour_that_daylight_saving_skips_is_left_out_and_in_the_doubled_hour_comes_twice() -> None:
    early = {"early": ProfileSection(when=["02:15-02:45"])}
    assert changes(early, "Europe/Berlin", utc(2026, 3, 28), 24) == []
    assert changes(early, "Europe/Berlin", utc(2026, 10, 24), 24) == [
        "00:15 UTC, Sun 02:15: early",
        "00:45 UTC, Sun 02:45: None",
        "01:15 UTC, Sun 02:15: early",
        "01:45 UTC, Sun 02:45: None",
    ]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-06:00", ["Mon 22:00", "Mon 23:59", "Tue 00:00", "Tue 05:59"], ["Mon 21:59", "Mon 06:00", "Mon 12:00"]),
        ("8:00-17:30", ["Mon 08:00", "Sun 17:29"], ["Mon 07:59", "Mon 17:30", "Mon 00:00"]),
        ("12:00-24:00", ["Mon 12:00", "Mon 23:59"], ["Tue 00:00", "Tue 11:59"]),
        ("00:00-24:00", ["Mon 00:00", "Sun 23:59"], []),
        ("22:00-00:00", ["Mon 23:59"], ["Tue 00:00"]),
        ("mon-fri 22:00-06:00", ["Mon 22:00", "Fri 23:00", "Sat 05:59"], ["Sat 06:00", "Sat 22:00", "Mon 05:00"]),
        ("sat,sun 00:00-24:00", ["Sat 00:00", "Sun 23:59"], ["Fri 23:59", "Mon 00:00"]),
        ("Fri-Mon 10:00-11:00", ["Fri 10:00", "Sat 10:00", "Sun 10:00", "Mon 10:00"], ["Tue 10:00", "Thu 10:00"]),
        ("sun 22:00-02:00", ["Sun 22:00", "Mon 01:59"], ["Sun 01:00", "Mon 22:00", "Mon 02:00"]),
    ],
)
def test_window_includes_the_times_between_its_begin_and_its_end(
    text: str, inside: list[str], outside: list[str]
) -> None:
    window = Window.parse(text)
    week = {f"{at:%a %H:%M}": at for at in (utc(2026, 11, 2, 0) + count * MINUTE for count in range(7 * 24 * 60))}
    assert [text for text in inside + outside if window.includes(week[text])] == inside


def test_first_profile_of_the_configuration_wins_when_two_are_due() -> None:
    profiles = {
        "holiday": ProfileSection(when=["sat 00:00-24:00"]),
        "night": ProfileSection(when=["22:00-06:00", "12:00-13:00"]),
        "never": ProfileSection(),
    }
    assert due(profiles, utc(2026, 11, 7, 23)) == "holiday"  # a Saturday
    assert due(profiles, utc(2026, 11, 8, 3)) == "night"
    assert due(profiles, utc(2026, 11, 9, 12, 30)) == "night"
    assert due(profiles, utc(2026, 11, 9, 14)) is None


class Wall:
    """A clock on the wall, and the cameras that a profile changes."""

    def __init__(self, hour: int, minute: int = 0) -> None:
        self.now = utc(2026, 11, 9, hour, minute)
        self.looked = anyio.Event()
        self.adjusted: list[dict[str, object]] = []

    def __call__(self) -> datetime:
        self.looked.set()
        return self.now

    def adjust(self, profile: Mapping[str, ProfileCameraSection]) -> None:
        self.adjusted.append({name: camera.score_threshold for name, camera in profile.items()})

    def profiles(self, configured: Mapping[str, ProfileSection], heard: Heard) -> Profiles:
        return Profiles(configured, cameras=self, listener=heard, now=self)


def test_profile_that_a_person_chose_stays_until_the_clock_is_chosen_again() -> None:
    wall, heard = Wall(23), Heard()
    profiles = wall.profiles({**NIGHT, "away": ProfileSection()}, heard)
    profiles.apply()
    for choice in ("away", "none", "night"):
        profiles.choose(choice)
    wall.now = utc(2026, 11, 9, 12)
    profiles.choose("auto")
    names = ("night", "away")
    assert heard.profiles == [
        ProfileStatus("night", "auto", names),
        ProfileStatus("away", "away", names),
        ProfileStatus(None, "none", names),
        ProfileStatus("night", "night", names),
        ProfileStatus(None, "auto", names),
    ]
    assert wall.adjusted == [{"front": 0.7}, {}, {}, {"front": 0.7}, {}]


def test_unknown_profile_changes_nothing() -> None:
    wall, heard = Wall(23), Heard()
    profiles = wall.profiles(NIGHT, heard)
    with pytest.raises(ProfileNotFoundError, match=r"Profile day does not exist. Choose one of these: auto, none, ni"):
        profiles.choose("day")
    assert (heard.profiles, wall.adjusted) == ([], [])


def test_reload_uses_new_settings_and_lets_the_clock_decide_if_the_chosen_profile_is_gone() -> None:
    wall, heard = Wall(12), Heard()
    profiles = wall.profiles({**NIGHT, "away": ProfileSection()}, heard)
    profiles.choose("away")
    edited = ProfileSection(cameras={"front": ProfileCameraSection(score_threshold=0.9)})
    profiles.reconfigure({"away": edited})
    assert (profiles.status, wall.adjusted[-1]) == (ProfileStatus("away", "away", ("away",)), {"front": 0.9})
    profiles.reconfigure(NIGHT)
    assert (profiles.status, wall.adjusted[-1]) == (ProfileStatus(None, "auto", ("night",)), {})


@pytest.mark.anyio
async def test_profile_changes_soon_after_the_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cameras.profiles._LOOK_EVERY_S", 0.001)
    wall, heard = Wall(12), Heard()
    profiles = wall.profiles(NIGHT, heard)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(profiles.run)
        for hour, active in ((23, "night"), (21, None), (5, "night")):
            wall.now = utc(2026, 11, 9, hour)
            with anyio.fail_after(10):
                while not heard.profiles or heard.profiles[-1].active != active:
                    wall.looked = anyio.Event()
                    await wall.looked.wait()
        tasks.cancel_scope.cancel()
    assert [status.active for status in heard.profiles] == ["night", None, "night"]


@pytest.mark.anyio
async def test_profile_is_looked_at_when_the_next_minute_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        wall.now += timedelta(seconds=seconds)
        await anyio.lowlevel.checkpoint()
        if len(waits) == 3:
            raise TimeoutError

    monkeypatch.setattr("agent.cameras.profiles.asyncio.sleep", wait)
    wall, heard = Wall(21, 59), Heard()
    wall.now += timedelta(seconds=12.5)
    with pytest.raises(TimeoutError):
        await wall.profiles(NIGHT, heard).run()
    assert waits == [30, 17.5, 30]
    assert [status.active for status in heard.profiles] == ["night"]


def test_local_time_follows_the_time_zone_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as changed:
        for zone, offset in (("UTC", 0), ("Asia/Kolkata", 5.5)):
            changed.setenv("TZ", zone)
            assert local_time().utcoffset() == timedelta(hours=offset)
    local_time()  # with the zone of before
