"""Rpc: builds the gRPC server from the configuration."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from agent.host import process
from agent.host.extra import command_that_adds
from agent.wiring.access import grpc_access, server_files

if TYPE_CHECKING:
    from agent.config.sections import Config
    from agent.health import Health
    from agent.inference.data_plane import DataPlane
    from agent.inference.share import Share
    from agent.metrics.rpc import RpcMetrics
    from agent.models.manager import ModelManager
    from agent.rpc.server import Server
    from agent.security.access import AccessRules

log = logging.getLogger(__name__)


def build_rpc(
    config: Config,
    *,
    version: str,
    data_plane: DataPlane,
    places: Share,
    models: ModelManager,
    health: Health,
    metrics: RpcMetrics,
    access: AccessRules,
) -> Server | None:
    """None if gRPC is off, or if its packages are missing. Call it inside the running loop.

    gRPC is imported only here: it takes 20 MB of memory.
    """
    if not config.grpc.enabled:
        return None
    process.share_freed_memory()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the agent says in sentences what gRPC would log
    try:
        from agent.rpc.certificate import Certificate  # noqa: PLC0415
        from agent.rpc.door import Door  # noqa: PLC0415
        from agent.rpc.health import HealthService  # noqa: PLC0415
        from agent.rpc.open_inference import INFERENCE_SERVICE, OpenInference  # noqa: PLC0415
        from agent.rpc.server import Server  # noqa: PLC0415
        from agent.rpc.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE, TFServing  # noqa: PLC0415
    except ImportError as error:
        log.error("%s HTTP, cameras and MQTT are not affected.", why_not_installed(error))  # noqa: TRY400  (expected)
        return None
    grpc, http = config.grpc, config.http
    files = server_files(config)
    watched = HealthService(health, services=(PREDICTION_SERVICE, MODEL_SERVICE, INFERENCE_SERVICE))
    tf_serving = TFServing(data_plane=data_plane, models=models)
    open_inference = OpenInference(version=version, data_plane=data_plane, models=models, health=health)
    door = Door(
        {**watched.methods(), **tf_serving.methods(), **open_inference.methods()},
        rules=grpc_access(config, access),
        requests=metrics,
        places=places,
        per_client=http.per_client,
        message_timeout_s=http.body_timeout_s,
    )
    return Server(
        door,
        health=watched,
        host=grpc.host,
        port=grpc.port,
        max_message_bytes=grpc.max_message_bytes,
        handshake_timeout_s=http.header_timeout_s,
        certificate=Certificate(files) if files else None,
    )


def why_no_grpc(config: Config) -> str | None:
    """Why gRPC is on but cannot be loaded, and what to do; None if it can, or if it is off."""
    if not config.grpc.enabled:
        return None
    try:
        import google.protobuf  # noqa: F401, PLC0415  (only whether it can be imported)
        import grpc  # noqa: F401, PLC0415  (likewise)
    except ImportError as error:
        return why_not_installed(error)
    return None


def why_not_installed(error: ImportError) -> str:
    return f"grpc.enabled is true, but gRPC cannot be imported ({error}). Install it: {command_that_adds('grpc')}."
