/* SPDX-License-Identifier: Apache-2.0
 * An ONNX file's bytes into its messages, for files that are out to harm.
 *
 * The unpacker of protobuf-c recurses for every message within a message and allocates for every field, so a file of
 * some kilobytes could overflow the stack (graphs in attributes of graphs) or take sixty times its size (empty nodes). So
 * the bytes are walked first, by the descriptors, with a limit on depth and on the number of fields, and what the
 * unpacker takes comes from an arena with a cap. Freeing does nothing: the arena goes as a whole. */
#include <onnx.pb-c.h>

#include "net/onnx_private.h"

/* Model, graph, node, attribute, tensor, segment: 6; types of inputs: 7. */
enum { MAX_DEPTH = 12, MAX_FIELDS = 1 << 16 };

typedef struct wire {
    const uint8_t *at, *end;
} wire;

static bool take_varint(wire *w, uint64_t *ret) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        uint8_t byte = *w->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool skip(wire *w, uint64_t n) {
    if (n > (uint64_t)(w->end - w->at)) return false;
    w->at += n;
    return true;
}

/* Walks one message. NULL when all is well, else what is wrong. */
static const char *walk(wire w, const ProtobufCMessageDescriptor *type, int depth, int *fields) {
    static const char damaged[] = "the file is damaged or cut short";
    if (depth > MAX_DEPTH) return "messages are nested too deep";
    while (w.at < w.end) {
        uint64_t tag = 0, len = 0;
        if (!take_varint(&w, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911) return damaged;
        if (++*fields > MAX_FIELDS) return "too many fields";
        switch (tag & 7) {
        case 0:
            if (!take_varint(&w, &len)) return damaged;
            break;
        case 1:
            if (!skip(&w, 8)) return damaged;
            break;
        case 5:
            if (!skip(&w, 4)) return damaged;
            break;
        case 2: {
            const uint8_t *from;
            if (!take_varint(&w, &len)) return damaged;
            from = w.at;
            if (!skip(&w, len)) return damaged;
            const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
            const char *why = field && field->type == PROTOBUF_C_TYPE_MESSAGE ? walk((wire){from, w.at}, field->descriptor, depth + 1, fields) : NULL;
            if (why) return why;
            break;
        }
        default: return damaged;
        }
    }
    return NULL;
}

static void *take(void *arena, size_t size) {
    return esp_arena_take(arena, size ? size : 1);
}

static void leave(void *arena, void *piece) {
    (void)arena;
    (void)piece;
}

esp_code esp_onnx_unpack(const void *bytes, size_t len, esp_arena *arena, struct EspOnnx__ModelProto **ret, esp_error *reterr) {
    int fields = 0;
    const char *why = walk((wire){bytes, (const uint8_t *)bytes + len}, &esp_onnx__model_proto__descriptor, 0, &fields);
    if (why) return esp_fail(reterr, ESP_INVALID, "not an ONNX file: %s", why);
    ProtobufCAllocator allocator = {take, leave, arena};
    EspOnnx__ModelProto *model = esp_onnx__model_proto__unpack(&allocator, len, bytes);
    if (!model)
        return esp_fail(reterr, ESP_INVALID, "not an ONNX file: a field is not what it should be, or takes more memory than the file is worth");
    *ret = model;
    return ESP_OK;
}
