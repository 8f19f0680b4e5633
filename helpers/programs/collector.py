"""A collector of OpenTelemetry spans. Run by the servers' interpreter, never imported.

    python collector.py PORT FILE

Takes what comes by OTLP over gRPC, as a real collector would, and writes each span into FILE as one
line of JSON.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

port, file = sys.argv[1:]


def export(
    request: ExportTraceServiceRequest, context: grpc.ServicerContext
) -> ExportTraceServiceResponse:
    """Write the spans of one message."""
    lines = [
        json.dumps(
            {
                "service": next(
                    (a.value.string_value for a in sender.attributes if a.key == "service.name"), ""
                ),
                "trace": span.trace_id.hex(),
                "span": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "name": span.name,
                "start": span.start_time_unix_nano,
                "end": span.end_time_unix_nano,
            }
        )
        for spans in request.resource_spans
        for sender in [spans.resource]
        for scope in spans.scope_spans
        for span in scope.spans
    ]
    with open(file, "a") as out:
        out.writelines(line + "\n" for line in lines)
    return ExportTraceServiceResponse()


open(file, "w").close()  # those of an earlier run are none of ours
method = grpc.unary_unary_rpc_method_handler(
    export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
)
name = "opentelemetry.proto.collector.trace.v1.TraceService"
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Export": method})])
server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
print("collecting")
server.wait_for_termination()
