/* What the load generator's files share: the plan, the connections, the counts, and how a dialect reads answers.
 *
 * Owns: the types and the few functions between `loadgen.c`, which has the loop, and the dialects, one file for each
 * protocol, which read the answers. Requests come encoded with the plan, whatever the protocol.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MODE_SEND = 1, MODE_DRAIN = 2, MODE_IDLE = 3 };
enum { FLAG_CLOSE_EACH = 1, FLAG_EXTENSION = 4 };
enum { TOKEN_SIZE = 16, SEQUENCE_SIZE = 8 };
enum { MESSAGEU = 1, REDIS = 2, POSTGRES = 3, MQTT = 4, AMQP = 5 };

/* bench/plan.py, PLAN_HEADER. Sizes are bytes, times nanoseconds. */
struct plan {
    char magic[4];
    uint32_t mode, dialect, port, connections, window, flags, sources, targets;
    uint32_t key_size, prefix_size, head_size, tag_size, body_size, closer_size, greeting_size, greeted_size;
    uint32_t content_size;
    uint64_t messages, run_time, limit_time, hold_time, seed;
};
_Static_assert(sizeof(struct plan) == 112, "the plan's header has no gaps");

struct flight {
    uint64_t sent_at;
    uint32_t target;
    bool is_closer, is_answered;
    /* What a request of the extension has between prefix and head: 642's token, or 643's ack. */
    uint8_t stamp[TOKEN_SIZE];
};

/* The most that a dialect may have to see together before it can take a step. */
enum { HELD_SIZE = 64 };

struct connection {
    int fd;
    uint32_t number;
    bool watching_writes;
    /* A ring of requests, oldest first: `count` of them, of which `answered` were answered before an older one was.
     * The first `written` are with the kernel, and `offset` bytes of the one after them. */
    struct flight *flights;
    uint32_t oldest, count, answered, written;
    /* Requests that left the ring since the connection was opened. */
    uint64_t settled;
    size_t offset;
    /* What of the answers' stream could not be taken yet. */
    uint8_t held[HELD_SIZE];
    uint32_t held_size;
    /* Where the answers' stream stands; each dialect says what they mean to it. */
    bool in_payload, skipping, empty_response;
    uint64_t payload_left, content_left;
    uint64_t last_id;
};

/* All that is counted; bench/plan.py, Report, says what each means. */
struct counts {
    uint64_t sent, acknowledged, refused, wrong, unexpected, unanswered, closed_early;
    uint64_t responses, messages, content_bytes, wrong_size, disordered, finished_targets, slowest;
};

extern struct plan plan;
extern struct counts counts;
extern const uint8_t *keys;
extern uint64_t *per_target;
/* Places in each connection's ring: the window, or more where a protocol answers in any order. */
extern uint32_t ring_size;

enum { GONE = -1 };

/* How the answers of one kind of server are read. `take` gets `left` bytes at `at`, takes as many whole steps as there
 * are, and gives the number of bytes it took; the rest, less than HELD_SIZE, is shown again with more behind it. It
 * gives GONE when the connection is not to be used any more, which it has then closed or lost. */
typedef ptrdiff_t take_function(struct connection *c, const uint8_t *at, size_t left, uint64_t now);
take_function take_messageu, take_redis, take_postgres, take_mqtt, take_amqp;

/* The oldest request that is in flight on `c`. There must be one. */
static inline struct flight *oldest_flight(struct connection *c) {
    return &c->flights[c->oldest];
}

/* Whether anything that was asked is still to be answered. An answer without a question is `unexpected`. */
static inline bool awaits_answer(const struct connection *c) {
    return c->written > c->answered;
}

/* The flight `index` after the oldest was answered: takes it out of those in flight, and gives it. */
struct flight settle(struct connection *c, uint32_t index, uint64_t now);
/* The same for the oldest, counted as acknowledged, refused or neither. */
void acknowledge(struct connection *c, uint32_t index, uint64_t now);
void record(uint64_t latency);
/* The whole answer to a request of a drain or of an idle connection has come; `is_empty`: it brought no message.
 * Asks what is to be asked next. False: the connection was closed, as the plan wants it, or lost. */
bool fetched(struct connection *c, bool is_empty, uint64_t now);
/* One message of an answer, of `size` bytes; counts it and checks the size. */
void count_message(struct connection *c, uint64_t size);
void lose_connection(struct connection *c);
/* Counts what no server should have sent, and closes. Always GONE. */
ptrdiff_t unexpected_answer(struct connection *c);

static inline uint32_t read_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t read_u64(const uint8_t *at) {
    return (uint64_t)read_u32(at) | (uint64_t)read_u32(at + 4) << 32;
}

static inline uint32_t read_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

#endif
