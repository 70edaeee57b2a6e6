/* AMQP 0-9-1, as RabbitMQ speaks it: basic.ack and basic.nack for what was published, which may stand for many and come
 * in any order; deliveries to a consumer.
 *
 * A drain's request is basic.consume; when as many messages came as the target's key says, its closer acknowledges all
 * of them and cancels the consumer, which cancel-ok answers.
 * `payload_left`: bytes of a frame, with its end, that are stepped over; `content_left`: bytes of a message's body that
 * are to come, in this frame or later ones; `last_id`: messages that came whole for this request.
 */
#include "loadgen.h"

enum { METHOD = 1, HEADER = 2, BODY = 3, HEARTBEAT = 8, FRAME_HEAD = 7, HEADER_HEAD = 12, ACK_SIZE = 13 };
enum { CONSUME_OK = 60 << 16 | 21, CANCEL_OK = 60 << 16 | 31, DELIVER = 60 << 16 | 60 };
enum { ACK = 60 << 16 | 80, NACK = 60 << 16 | 120 };

static uint64_t read_big(const uint8_t *at, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static void confirm(struct connection *c, uint32_t index, bool is_ack, uint64_t now) {
    if (is_ack)
        acknowledge(c, index, now);
    else {
        settle(c, index, now);
        counts.refused++;
    }
}

/* basic.ack or basic.nack. False: the connection is gone. */
static bool take_confirm(struct connection *c, const uint8_t *arguments, bool is_ack, uint64_t now) {
    uint64_t tag = read_big(arguments, 8);
    bool multiple = arguments[8] & 1;
    /* Tags count the published messages of a channel from 1. */
    if (plan.mode != MODE_SEND || tag <= c->settled || tag > c->settled + c->written)
        return unexpected_answer(c) != GONE;
    if (!multiple) {
        uint32_t index = (uint32_t)(tag - 1 - c->settled);
        if (c->flights[(c->oldest + index) % ring_size].is_answered)
            return unexpected_answer(c) != GONE;
        confirm(c, index, is_ack, now);
    }
    while (multiple && c->settled < tag)
        confirm(c, 0, is_ack, now);
    return true;
}

/* After each message, and after consume-ok: whether all are there. False: the connection is gone. */
static bool take_progress(struct connection *c, uint64_t now) {
    if (c->last_id < read_u32(keys + (size_t)oldest_flight(c)->target * plan.key_size))
        return true;
    c->last_id = 0;
    return fetched(c, false, now);
}

static bool take_method(struct connection *c, const uint8_t *payload, uint32_t size, uint64_t now) {
    uint32_t method = size < 4 ? 0 : (uint32_t)read_big(payload, 4);
    if ((method == ACK || method == NACK) && size >= ACK_SIZE)
        return take_confirm(c, payload + 4, method == ACK, now);
    if (plan.mode == MODE_DRAIN && awaits_answer(c)) {
        bool is_closer = oldest_flight(c)->is_closer;
        if (method == CONSUME_OK && !is_closer)
            return take_progress(c, now);
        if (method == DELIVER && !is_closer)
            return true;
        if (method == CANCEL_OK && is_closer)
            return fetched(c, true, now);
    }
    return unexpected_answer(c) != GONE;
}

ptrdiff_t take_amqp(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *begin = at;
    for (;;) {
        if (c->payload_left > 0) {
            size_t step = c->payload_left < left ? (size_t)c->payload_left : left;
            c->payload_left -= step;
            at += step;
            left -= step;
            if (c->payload_left > 0)
                return at - begin;
            if (c->in_payload && c->content_left == 0) {
                c->in_payload = false;
                c->last_id++;
                if (!take_progress(c, now))
                    return GONE;
            }
        }
        if (left < FRAME_HEAD)
            return at - begin;
        uint32_t size = (uint32_t)read_big(at + 3, 4);
        size_t needed = FRAME_HEAD + (at[0] == METHOD ? ACK_SIZE : at[0] == HEADER ? HEADER_HEAD : 0);
        if (needed > FRAME_HEAD + (size_t)size)
            needed = FRAME_HEAD + size;
        if (left < needed)
            return at - begin;
        c->payload_left = (uint64_t)size + 1;
        if (at[0] == METHOD) {
            if (!take_method(c, at + FRAME_HEAD, size, now))
                return GONE;
        } else if (at[0] == HEADER && size >= HEADER_HEAD && plan.mode == MODE_DRAIN && awaits_answer(c)) {
            c->content_left = read_big(at + FRAME_HEAD + 4, 8);
            c->in_payload = true;
            count_message(c, c->content_left);
        } else if (at[0] == BODY && c->in_payload && size <= c->content_left)
            c->content_left -= size;
        else if (at[0] != HEARTBEAT)
            return unexpected_answer(c);
        at += FRAME_HEAD;
        left -= FRAME_HEAD;
    }
}
