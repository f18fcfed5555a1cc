"""Rpc: builds the gRPC server from the configuration."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.host import process
from agent.wiring.access import server_files

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
    """None if gRPC is off, or if its packages or the certificate are missing. Call it inside the running loop.

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
        log.error(  # noqa: TRY400  (expected; the sentence says it all)
            "grpc.enabled is true, but gRPC cannot be imported (%s). Install it: pip install 'edge-agent[grpc]'. "
            "HTTP, cameras and MQTT are not affected.",
            error,
        )
        return None
    grpc, http = config.grpc, config.http
    files = server_files(config)
    try:
        certificate = Certificate(files) if files else None
    except (ConfigError, OSError) as error:
        log.error(  # noqa: TRY400  (expected; the sentence says it all)
            "%s gRPC stays off; fix this and restart the agent. Cameras and MQTT are not affected.", error
        )
        return None
    watched = HealthService(health, services=(PREDICTION_SERVICE, MODEL_SERVICE, INFERENCE_SERVICE))
    tf_serving = TFServing(data_plane=data_plane, models=models)
    open_inference = OpenInference(version=version, data_plane=data_plane, models=models, health=health)
    door = Door(
        {**watched.methods(), **tf_serving.methods(), **open_inference.methods()},
        rules=dataclasses.replace(
            access, is_local=grpc.is_local and not access.has_certificates, has_certificates=False
        ),
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
        certificate=certificate,
    )
