/* RESP, as Redis answers RPUSH, LRANGE and DEL: `:n`, `*n` with n times `$size`, and `-reason`.
 *
 * A list's length or a number of keys must be positive: RPUSH leaves at least one, DEL must have found the list.
 * `payload_left`: elements of an array that are to come; `content_left`: bytes of one of them, with its line's end.
 */
#include "loadgen.h"

enum { NO_LINE = 0, BROKEN_LINE = -1 };

/* The length of the line at `at` with its CR LF, its number in `value`; NO_LINE where its end has not come yet. */
static ptrdiff_t take_line(const uint8_t *at, size_t left, int64_t *value) {
    const uint8_t *end = memchr(at, '\n', left);
    if (end == NULL)
        return left >= HELD_SIZE ? BROKEN_LINE : NO_LINE;
    const uint8_t *digit = at + 1;
    bool negative = *digit == '-';
    if (negative)
        digit++;
    *value = 0;
    for (; digit < end - 1; digit++) {
        if (*digit < '0' || *digit > '9' || end - digit > 18)
            return BROKEN_LINE;
        *value = *value * 10 + (*digit - '0');
    }
    if (negative)
        *value = -*value;
    return end + 1 - at;
}

/* An error's line, which may be long; only its end counts. */
static ptrdiff_t take_error(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *end = memchr(at, '\n', left);
    c->skipping = end == NULL;
    if (end == NULL)
        return (ptrdiff_t)left;
    settle(c, 0, now);
    counts.refused++;
    return end + 1 - at;
}

static bool take_number(struct connection *c, int64_t value, uint64_t now) {
    if (plan.mode == MODE_SEND && value > 0) {
        acknowledge(c, 0, now);
        return true;
    }
    if (plan.mode != MODE_SEND && value > 0 && oldest_flight(c)->is_closer)
        return fetched(c, true, now);
    return unexpected_answer(c) != GONE;
}

ptrdiff_t take_redis(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *begin = at;
    while (left > 0) {
        ptrdiff_t step;
        int64_t value = 0;
        if (c->content_left > 0) {
            step = (ptrdiff_t)(c->content_left < left ? c->content_left : left);
            c->content_left -= (uint64_t)step;
            if (c->content_left == 0 && --c->payload_left == 0 && !fetched(c, false, now))
                return GONE;
            at += step;
            left -= (size_t)step;
            continue;
        }
        if (!awaits_answer(c))
            return unexpected_answer(c);
        if (c->skipping || *at == '-') {
            step = take_error(c, at, left, now);
            at += step;
            left -= (size_t)step;
            continue;
        }
        step = take_line(at, left, &value);
        if (step == NO_LINE)
            return at - begin;
        if (step == BROKEN_LINE)
            return unexpected_answer(c);
        if (c->payload_left > 0) {
            if (*at != '$' || value < 0)
                return unexpected_answer(c);
            count_message(c, (uint64_t)value);
            c->content_left = (uint64_t)value + 2;
        } else if (*at == ':') {
            if (!take_number(c, value, now))
                return GONE;
        } else if (*at == '*' && plan.mode != MODE_SEND && value >= -1) {
            c->payload_left = value > 0 ? (uint64_t)value : 0; /* -1: there is no such list */
            if (value <= 0 && !fetched(c, true, now))
                return GONE;
        } else
            return unexpected_answer(c);
        at += step;
        left -= (size_t)step;
    }
    return at - begin;
}
