/* PostgreSQL's extended protocol: every request is Bind, Execute and Sync, a transaction of its own.
 *
 * A request is answered with ReadyForQuery, which follows the commit; an ErrorResponse before it makes it a refusal
 * (`skipping`). `last_id`: rows that came for this request; `payload_left`: bytes of a message that is stepped over.
 */
#include "loadgen.h"

enum { HEADER_SIZE = 5, ROW_HEAD_SIZE = 11 };

static uint32_t read_big_u32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

/* The end of a request's answer. False: the connection is gone. */
static bool take_ready(struct connection *c, uint64_t now) {
    bool failed = c->skipping, is_empty = c->last_id == 0;
    if (!awaits_answer(c))
        return unexpected_answer(c) != GONE;
    c->skipping = false;
    c->last_id = 0;
    if (failed) {
        settle(c, 0, now);
        counts.refused++;
        return true;
    }
    if (plan.mode == MODE_SEND) {
        acknowledge(c, 0, now);
        return true;
    }
    return fetched(c, is_empty || oldest_flight(c)->is_closer, now);
}

ptrdiff_t take_postgres(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *begin = at;
    for (;;) {
        if (c->payload_left > 0) {
            size_t step = c->payload_left < left ? (size_t)c->payload_left : left;
            c->payload_left -= step;
            at += step;
            left -= step;
        }
        if (left < HEADER_SIZE || (*at == 'D' && left < ROW_HEAD_SIZE))
            return at - begin;
        uint32_t size = read_big_u32(at + 1);
        uint8_t kind = *at;
        if (size < 4 || strchr("2CZEDNn", kind) == NULL || kind == 0)
            return unexpected_answer(c);
        if (kind == 'D') {
            if (!awaits_answer(c) || size < ROW_HEAD_SIZE - 1)
                return unexpected_answer(c);
            count_message(c, read_big_u32(at + HEADER_SIZE + 2));
            c->last_id++;
        }
        if (kind == 'E')
            c->skipping = true;
        /* What stands behind the header is stepped over; the connection may end with ReadyForQuery's. */
        c->payload_left = size - 4;
        at += HEADER_SIZE;
        left -= HEADER_SIZE;
        if (kind == 'Z') {
            if (left < 1) {
                c->payload_left = 0;
                return at - HEADER_SIZE - begin;
            }
            c->payload_left = 0;
            at++;
            left--;
            if (!take_ready(c, now))
                return GONE;
        }
    }
}
