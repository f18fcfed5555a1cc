"""Home: a Home Assistant instance for a test: the released core in this process, with its MQTT integration."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peers.mosquitto import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def _of(module: str) -> Any:
    """Imports a module of Home Assistant at run time: it is installed for these tests only, and mypy lacks it."""
    return import_module(f"homeassistant.{module}")


class Home:
    """What a user of Home Assistant sees."""

    def __init__(self, hass: Any) -> None:
        self._hass = hass

    def entities(self) -> dict[str, str]:
        """The state of each entity by its entity id."""
        return {state.entity_id: state.state for state in self._hass.states.async_all()}

    def state(self, entity: str) -> str | None:
        found = self._hass.states.get(entity)
        return None if found is None else str(found.state)

    def attributes(self, entity: str) -> dict[str, Any]:
        found = self._hass.states.get(entity)
        return {} if found is None else dict(found.attributes)

    def unique_ids(self) -> dict[str, str]:
        registry = _of("helpers.entity_registry").async_get(self._hass)
        return {entry.unique_id: entry.entity_id for entry in registry.entities.values()}

    def categories(self) -> dict[str, str | None]:
        registry = _of("helpers.entity_registry").async_get(self._hass)
        return {entry.entity_id: entry.entity_category for entry in registry.entities.values()}

    def devices(self) -> list[Any]:
        return list(_of("helpers.device_registry").async_get(self._hass).devices.values())

    def image(self, entity: str) -> bytes | None:
        """The image that is shown."""
        image: bytes | None = self._hass.data["image"].get_entity(entity)._last_image
        return image

    async def call(self, service: str, entity: str, **data: str) -> None:
        domain, _, name = service.partition(".")
        await self._hass.services.async_call(domain, name, {"entity_id": entity, **data}, blocking=True)


@asynccontextmanager
async def home(folder: Path, port: int) -> AsyncIterator[Home]:
    """Its settings are in `folder`; the same folder gives the same home after a restart."""
    asyncio.get_running_loop().set_exception_handler(None)  # logs what its tasks raise when the broker ends
    (folder / "configuration.yaml").touch()
    hass = _of("core").HomeAssistant(str(folder))
    hass.config.skip_pip = True
    _of("loader").async_setup(hass)
    hass.config_entries = _of("config_entries").ConfigEntries(hass, {})
    await _of("bootstrap").async_load_base_functionality(hass)
    hass.auth = await _of("auth").auth_manager_from_config(hass, [], [])
    set_up = _of("setup").async_setup_component
    try:
        assert await set_up(hass, "homeassistant", {})
        assert await set_up(hass, "http", {"http": {"server_host": ["127.0.0.1"], "server_port": free_port()}})
        if hass.config_entries.async_entries("mqtt"):
            assert await set_up(hass, "mqtt", {})
        else:
            await _add_mqtt(hass, port)
        await hass.async_start()
        await hass.async_block_till_done()
        yield Home(hass)
    finally:
        await hass.async_stop(force=True)


async def _add_mqtt(hass: Any, port: int) -> None:
    """As a user does, who enters only the broker's address."""
    flow = hass.config_entries.flow
    form = await flow.async_init("mqtt", context={"source": "user"})
    done = await flow.async_configure(form["flow_id"], {"broker": "127.0.0.1", "port": port})
    assert done["type"] == "create_entry", done
