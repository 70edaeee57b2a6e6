/* MQTT 3.1.1: PUBACK with the packet's id, and PINGRESP. */
#include "loadgen.h"

enum { PUBACK = 0x40, PINGRESP = 0xd0, PUBACK_SIZE = 4, PINGRESP_SIZE = 2 };

/* Where among those in flight a packet's id stands; `count` where it does not. The id is a place in the ring, from 1. */
static uint32_t index_of(const struct connection *c, uint32_t id) {
    if (id == 0 || id > plan.window)
        return c->count;
    uint32_t index = (id - 1 + plan.window - c->oldest) % plan.window;
    return index < c->written && !c->flights[id - 1].is_answered ? index : c->count;
}

ptrdiff_t take_mqtt(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *begin = at;
    while (left >= PINGRESP_SIZE) {
        size_t step = PINGRESP_SIZE;
        if (!awaits_answer(c))
            return unexpected_answer(c);
        if (at[0] == PUBACK && at[1] == 2 && plan.mode == MODE_SEND) {
            step = PUBACK_SIZE;
            if (left < step)
                break;
            uint32_t index = index_of(c, (uint32_t)at[2] << 8 | at[3]);
            if (index == c->count)
                return unexpected_answer(c);
            acknowledge(c, index, now);
        } else if (at[0] == PINGRESP && at[1] == 0 && plan.mode == MODE_IDLE) {
            if (!fetched(c, true, now))
                return GONE;
        } else
            return unexpected_answer(c);
        at += step;
        left -= step;
    }
    return at - begin;
}
