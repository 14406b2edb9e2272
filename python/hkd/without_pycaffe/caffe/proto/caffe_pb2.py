"""Caffe's messages, made from caffe.binpb, the compiled caffe.proto, by whichever protobuf is installed.

What protoc writes is bound to the versions of protobuf that its own knows; this is not.
"""

from pathlib import Path

from google.protobuf import descriptor_pool, message_factory

DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(Path(__file__).with_name("caffe.binpb").read_bytes())
if DESCRIPTOR is None:  # protobuf's pure Python before version 5 returns nothing
    DESCRIPTOR = descriptor_pool.Default().FindFileByName("caffe.proto")

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
for _enum in DESCRIPTOR.enum_types_by_name.values():
    globals().update({value.name: value.number for value in _enum.values})
