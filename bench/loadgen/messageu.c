/* The client protocol: 2103, 2104, 2143 (in plans of the extension) and 9000.
 *
 * `in_payload`: inside a 2104 or 2143, or inside an answer that is stepped over (`skipping`); `payload_left` bytes of it are to
 * come, the first `content_left` of them of one message's content.
 */
#include "loadgen.h"

enum { CODE_STORED = 2103, CODE_WAITING = 2104, CODE_FETCHED = 2143, CODE_ERROR = 9000 };
enum { HEADER_SIZE = 7, STORED_SIZE = 20, ID_SIZE = 16, LARGEST_SKIP = 1 << 20 };
/* A message's head in a 2104: sender, id u32, kind u8, content size u32. In a 2143: sender, token, sequence u64,
 * accepted at u64, flags u8, kind u8, content size u32. */
enum { WAITING_ENTRY = 25, FETCHED_ENTRY = 54, SEQUENCE_AT = 32 };

static uint32_t mail_code(void) {
    return plan.flags & FLAG_EXTENSION ? CODE_FETCHED : CODE_WAITING;
}

static size_t entry_size(void) {
    return plan.flags & FLAG_EXTENSION ? FETCHED_ENTRY : WAITING_ENTRY;
}

/* One header, and 2103's payload with it. False: the connection is gone. */
static bool take_head(struct connection *c, const uint8_t *head, uint64_t now) {
    uint32_t code = read_u16(head + 1), size = read_u32(head + 3);
    if (!awaits_answer(c))
        return unexpected_answer(c) != GONE;
    if (code == CODE_STORED && size == STORED_SIZE && plan.mode == MODE_SEND) {
        const uint8_t *key = keys + (size_t)oldest_flight(c)->target * plan.key_size;
        if (memcmp(head + HEADER_SIZE, key, ID_SIZE) == 0)
            acknowledge(c, 0, now);
        else {
            settle(c, 0, now);
            counts.wrong++;
        }
        return true;
    }
    if (code == mail_code() && plan.mode != MODE_SEND) {
        c->empty_response = size == 0;
        c->payload_left = size;
        c->content_left = 0;
        c->in_payload = size > 0;
        c->skipping = false;
        return size > 0 || fetched(c, true, now);
    }
    settle(c, 0, now);
    if (code == CODE_ERROR && size == 0) {
        counts.refused++;
        return true;
    }
    if (size > LARGEST_SKIP)
        return unexpected_answer(c) != GONE;
    counts.unexpected++;
    c->payload_left = size;
    c->in_payload = size > 0;
    c->skipping = true;
    return true;
}

/* One message's head inside a 2104 or 2143. False: it does not fit, and the connection is gone. */
static bool take_entry(struct connection *c, const uint8_t *entry) {
    bool fetches = plan.flags & FLAG_EXTENSION;
    uint64_t id = fetches ? read_u64(entry + SEQUENCE_AT) : read_u32(entry + ID_SIZE);
    uint32_t size = read_u32(entry + entry_size() - 4);
    c->payload_left -= entry_size();
    if (size > c->payload_left)
        return unexpected_answer(c) != GONE;
    count_message(c, size);
    if (id <= c->last_id)
        counts.disordered++;
    c->last_id = id;
    c->content_left = size;
    return true;
}

/* How many bytes must stand together for the next step, as far as the `seen` ones tell. */
static size_t step_size(const struct connection *c, const uint8_t *at, size_t seen) {
    if (c->in_payload)
        return entry_size();
    if (plan.mode == MODE_SEND && seen >= HEADER_SIZE && read_u16(at + 1) == CODE_STORED &&
        read_u32(at + 3) == STORED_SIZE)
        return HEADER_SIZE + STORED_SIZE;
    return HEADER_SIZE;
}

ptrdiff_t take_messageu(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    const uint8_t *begin = at;
    for (;;) {
        size_t step;
        if (c->in_payload && (c->skipping || c->content_left > 0)) {
            uint64_t wanted = c->skipping ? c->payload_left : c->content_left;
            if (left == 0)
                return at - begin;
            step = wanted < left ? (size_t)wanted : left;
            c->payload_left -= step;
            c->content_left -= c->skipping ? 0 : step;
        } else if (c->in_payload && c->payload_left < entry_size())
            return unexpected_answer(c);
        else {
            step = step_size(c, at, left);
            if (left < step)
                return at - begin;
            if (!(c->in_payload ? take_entry(c, at) : take_head(c, at, now)))
                return GONE;
        }
        at += step;
        left -= step;
        if (c->in_payload && c->payload_left == 0) {
            c->in_payload = false;
            if (!c->skipping && !fetched(c, false, now))
                return GONE;
        }
    }
}
