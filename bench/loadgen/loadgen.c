/* The load generator: one epoll loop that sends requests to 127.0.0.1 and counts every answer.
 *
 * Owns: connections, the bytes of a load, and the report.
 * Promises: never the bottleneck (well below a microsecond a message when requests are pipelined); every answer is
 * checked; bounded in connections, messages and time, and it ends by itself, also when the one who started it dies.
 * Exposure: started by bench/generator.py alone, which writes the plan.
 *
 *     loadgen PLAN-FILE [CONNECTIONS-FILE]
 *
 * It opens the connections, or takes those that it inherits, whose descriptors are in the second file (u32 each), prints "ready", waits for one byte on stdin, does the work, prints its report as one line
 * of JSON, keeps the connections open until stdin ends, and ends. bench/plan.py has the plan's and the report's other
 * end and says what every field means; bench/slow_generator.py does the same in Python for MessageU alone, slower.
 *
 * A request is prefix (one for each connection) + stamp (in plans of the extension, the only thing that is made while
 * the load runs: 642's token or 643's ack) + head (one for each target) + tag (one for each place in the window) + body
 * (the same for all), or a target's closer alone: nothing is encoded or copied while the load runs. Each
 * protocol has a file that reads its answers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"

enum { READ_SIZE = 1 << 18, PARTS = 5, PIECES = 1024, EVENTS = 512 };
enum { CONNECT_SECONDS = 10, GO_SECONDS = 120 };

struct plan plan;
struct counts counts;
const uint8_t *keys;
uint64_t *per_target;
uint32_t ring_size;

static const uint8_t *prefixes, *heads, *tags, *body, *closers, *greeting, *greeted;
static const uint32_t *inherited;
static uint32_t stamp_size;
/* The first half of the tokens of one run; the second half counts. */
static uint64_t token_half, tokens;
static take_function *take;
static struct connection *connections;
static int epoll_fd = -1;
static uint64_t in_flight, open_count, last_answer_at, deadline;
static uint32_t next_target, started;
static uint64_t random_state;

enum { LINEAR = 64, BUCKETS = LINEAR + 58 * LINEAR };
static uint64_t histogram[BUCKETS];

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void reject(const char *what) {
    fprintf(stderr, "loadgen: %s\n", what);
    exit(2);
}

static uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t random_target(void) { /* xorshift64*, scaled */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    uint64_t high = (random_state * 2685821657736338717u) >> 32;
    return (uint32_t)((high * plan.targets) >> 32);
}

static void refill(struct connection *c, uint64_t now);

/* --- connections ------------------------------------------------------------------------------------------- */

static void watch(struct connection *c, bool writes, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0)
        die("epoll_ctl");
    c->watching_writes = writes;
}

/* Says what a fresh connection has to say, and waits for the answer's known end. */
static bool greet(int fd) {
    uint8_t answer[4096];
    size_t size = 0;
    if (send(fd, greeting, plan.greeting_size, MSG_NOSIGNAL) != (ssize_t)plan.greeting_size)
        return false;
    while (size < plan.greeted_size ||
           memcmp(answer + size - plan.greeted_size, greeted, plan.greeted_size) != 0) {
        ssize_t more = recv(fd, answer + size, sizeof answer - size, 0);
        if (more <= 0) {
            if (more == 0)
                errno = ECONNREFUSED;
            return false;
        }
        size += (size_t)more;
    }
    return true;
}

static bool take_inherited(struct connection *c) {
    c->fd = (int)inherited[c->number];
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
        return false;
    open_count++;
    watch(c, false, EPOLL_CTL_ADD);
    return true;
}

static bool open_connection(struct connection *c) {
    if (inherited != NULL)
        return take_inherited(c);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int one = 1;
    struct timeval patience = {.tv_sec = CONNECT_SECONDS};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (plan.sources > 1) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + c->number % plan.sources);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
            goto failed;
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)plan.port);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        goto failed;
    if (plan.greeting_size > 0 && !greet(fd))
        goto failed;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        goto failed;
    c->fd = fd;
    open_count++;
    watch(c, false, EPOLL_CTL_ADD);
    return true;
failed:
    close(fd);
    return false;
}

static void close_connection(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    open_count--;
    in_flight -= c->count - c->answered;
    counts.unanswered += c->count - c->answered;
    c->count = c->answered = c->written = 0;
    c->settled = 0;
    c->offset = 0;
    c->held_size = 0;
    c->in_payload = c->skipping = false;
    c->payload_left = c->content_left = 0;
}

void lose_connection(struct connection *c) {
    counts.closed_early++;
    close_connection(c);
}

/* --- requests ---------------------------------------------------------------------------------------------- */

struct part {
    const uint8_t *at;
    size_t size;
};

/* The pieces of the request in one place of a connection's ring; gives the size of all of them. */
static size_t request_parts(const struct connection *c, uint32_t place, struct part parts[PARTS]) {
    const struct flight *flight = &c->flights[place];
    memset(parts, 0, PARTS * sizeof *parts);
    if (flight->is_closer)
        parts[0] = (struct part){closers + (size_t)flight->target * plan.closer_size, plan.closer_size};
    else {
        parts[0] = (struct part){prefixes + (size_t)c->number * plan.prefix_size, plan.prefix_size};
        parts[1] = (struct part){flight->stamp, stamp_size};
        parts[2] = (struct part){heads + (size_t)flight->target * plan.head_size, plan.head_size};
        parts[3] = (struct part){tags + (size_t)place * plan.tag_size, plan.tag_size};
        parts[4] = (struct part){body, plan.body_size};
    }
    return parts[0].size + parts[1].size + parts[2].size + parts[3].size + parts[4].size;
}

/* Notes that `taken` more bytes are with the kernel. */
static void advance(struct connection *c, size_t taken) {
    struct part parts[PARTS];
    c->offset += taken;
    while (c->written < c->count) {
        size_t size = request_parts(c, (c->oldest + c->written) % ring_size, parts);
        if (c->offset < size)
            break;
        c->offset -= size;
        c->written++;
    }
}

static void write_requests(struct connection *c) {
    static struct iovec pieces[PIECES];
    while (c->written < c->count) {
        int used = 0;
        size_t skip = c->offset, total = 0;
        for (uint32_t i = c->written; i < c->count && used + PARTS <= PIECES; i++) {
            struct part parts[PARTS];
            request_parts(c, (c->oldest + i) % ring_size, parts);
            for (int part = 0; part < PARTS; part++) {
                if (skip >= parts[part].size) {
                    skip -= parts[part].size;
                    continue;
                }
                pieces[used].iov_base = (void *)(parts[part].at + skip);
                pieces[used].iov_len = parts[part].size - skip;
                total += pieces[used++].iov_len;
                skip = 0;
            }
        }
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)used};
        ssize_t taken = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN)
                break;
            lose_connection(c);
            return;
        }
        advance(c, (size_t)taken);
        if ((size_t)taken < total)
            break;
    }
    bool writes = c->written < c->count;
    if (writes != c->watching_writes)
        watch(c, writes, EPOLL_CTL_MOD);
}

static void ask(struct connection *c, uint32_t target, bool is_closer, uint64_t now) {
    struct flight *flight = &c->flights[(c->oldest + c->count) % ring_size];
    *flight = (struct flight){.sent_at = now, .target = target, .is_closer = is_closer};
    if (stamp_size == TOKEN_SIZE) {
        memcpy(flight->stamp, &token_half, 8);
        memcpy(flight->stamp + 8, &tokens, 8);
        tokens++;
    } else if (stamp_size == SEQUENCE_SIZE)
        memcpy(flight->stamp, &c->last_id, 8);
    c->count++;
    in_flight++;
    counts.sent++;
}

/* Whether each connection is one user's, who asks for the own mailbox alone. */
static bool own_mailboxes(void) {
    return plan.mode == MODE_DRAIN && plan.flags & FLAG_EXTENSION;
}

static bool more_to_send(uint64_t now) {
    return (plan.messages == 0 || counts.sent < plan.messages) && (plan.run_time == 0 || now < deadline);
}

/* Gives a connection what it should have in flight now. */
static void refill(struct connection *c, uint64_t now) {
    if (plan.mode == MODE_SEND)
        while (c->count - c->answered < plan.window && c->count < ring_size && more_to_send(now))
            ask(c, random_target(), false, now);
    else if (plan.mode == MODE_DRAIN && !own_mailboxes() && c->count == 0 && next_target < plan.targets) {
        c->last_id = 0;
        ask(c, next_target++, false, now);
    }
    if (c->written < c->count)
        write_requests(c);
}

/* In idle mode every connection asks once, `window` at a time, so that the server is never under load. Where
 * everybody's mailbox has a connection of its own, so many are emptied at a time. */
static void start_connections(uint64_t now) {
    while ((plan.mode == MODE_IDLE || own_mailboxes()) && started < plan.connections && in_flight < plan.window) {
        struct connection *c = &connections[started++];
        if (c->fd >= 0) {
            ask(c, c->number % plan.targets, false, now);
            write_requests(c);
        }
    }
}

/* --- answers ----------------------------------------------------------------------------------------------- */

/* bench/histogram.py has the same rule. */
void record(uint64_t latency) {
    uint64_t index = latency;
    if (latency >= LINEAR) {
        int shift = 63 - __builtin_clzll(latency) - 6;
        index = (uint64_t)shift * LINEAR + (latency >> shift);
    }
    histogram[index]++;
    if (latency > counts.slowest)
        counts.slowest = latency;
}

struct flight settle(struct connection *c, uint32_t index, uint64_t now) {
    struct flight *flight = &c->flights[(c->oldest + index) % ring_size];
    struct flight settled = *flight;
    flight->is_answered = true;
    c->answered++;
    while (c->count > 0 && c->flights[c->oldest].is_answered) {
        c->oldest = (c->oldest + 1) % ring_size;
        c->count--;
        c->written--;
        c->answered--;
        c->settled++;
    }
    in_flight--;
    last_answer_at = now;
    return settled;
}

void acknowledge(struct connection *c, uint32_t index, uint64_t now) {
    struct flight flight = settle(c, index, now);
    counts.acknowledged++;
    record(now - flight.sent_at);
    per_target[flight.target]++;
}

void count_message(struct connection *c, uint64_t size) {
    counts.messages++;
    counts.content_bytes += size;
    per_target[oldest_flight(c)->target]++;
    if (plan.content_size != 0 && size != plan.content_size)
        counts.wrong_size++;
}

bool fetched(struct connection *c, bool is_empty, uint64_t now) {
    struct flight flight = settle(c, 0, now);
    counts.responses++;
    record(now - flight.sent_at);
    if (plan.mode == MODE_IDLE)
        return true;
    if (is_empty)
        counts.finished_targets++;
    if (plan.flags & FLAG_CLOSE_EACH) {
        bool more = !is_empty || next_target < plan.targets;
        close_connection(c);
        if (more && !open_connection(c)) {
            counts.closed_early++;
            return false;
        }
    }
    if (!is_empty)
        ask(c, flight.target, plan.closer_size > 0, now);
    if (plan.flags & FLAG_CLOSE_EACH) {
        if (c->fd >= 0)
            refill(c, now);
        return false;
    }
    return true;
}

ptrdiff_t unexpected_answer(struct connection *c) {
    counts.unexpected++;
    lose_connection(c);
    return GONE;
}

static void readable(struct connection *c) {
    static uint8_t input[HELD_SIZE + READ_SIZE];
    memcpy(input, c->held, c->held_size);
    ssize_t size = recv(c->fd, input + c->held_size, READ_SIZE, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        lose_connection(c);
        return;
    }
    uint64_t now = nanoseconds();
    size_t whole = c->held_size + (size_t)size;
    c->held_size = 0;
    ptrdiff_t taken = take(c, input, whole, now);
    if (taken == GONE)
        return;
    c->held_size = (uint32_t)(whole - (size_t)taken);
    if (c->held_size > HELD_SIZE)
        reject("a dialect left more than can be held");
    memcpy(c->held, input + taken, c->held_size);
    refill(c, now);
}

/* --- the run ----------------------------------------------------------------------------------------------- */

static take_function *const dialects[] = {
    [MESSAGEU] = take_messageu, [REDIS] = take_redis, [POSTGRES] = take_postgres, [MQTT] = take_mqtt, [AMQP] = take_amqp,
};

/* The next `count` entries of `size` bytes in a plan's tables. */
static const uint8_t *next_table(const uint8_t **at, uint32_t count, uint32_t size) {
    const uint8_t *table = *at;
    *at += (size_t)count * size;
    return table;
}

static const uint8_t *read_plan(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("the plan can't be opened");
    if (fread(&plan, sizeof plan, 1, file) != 1 || memcmp(plan.magic, "MUB2", 4) != 0)
        reject("this is no plan");
    if (plan.mode < MODE_SEND || plan.mode > MODE_IDLE || plan.connections == 0 || plan.window == 0 ||
        plan.limit_time == 0 || plan.port == 0 || plan.port > 65535 ||
        (plan.targets == 0 && plan.mode != MODE_IDLE) ||
        (plan.mode == MODE_SEND && plan.messages == 0 && plan.run_time == 0) ||
        plan.dialect >= sizeof dialects / sizeof *dialects || dialects[plan.dialect] == NULL ||
        (plan.dialect == MESSAGEU && plan.mode == MODE_SEND && plan.key_size != 16) ||
        (plan.dialect == AMQP && plan.mode == MODE_DRAIN && plan.key_size != 4) ||
        (plan.flags & FLAG_EXTENSION &&
         (plan.dialect != MESSAGEU || plan.flags & FLAG_CLOSE_EACH ||
          (plan.mode == MODE_DRAIN && plan.targets != plan.connections))))
        reject("the plan asks for nothing that can be done");
    take = dialects[plan.dialect];
    /* With room beside the window an answer that comes late does not stop those that came before it. */
    ring_size = plan.dialect == AMQP ? plan.window * 16 : plan.mode == MODE_SEND ? plan.window : 1;
    if (plan.flags & FLAG_EXTENSION) {
        stamp_size = plan.mode == MODE_SEND ? TOKEN_SIZE : SEQUENCE_SIZE;
        if (getrandom(&token_half, sizeof token_half, 0) != sizeof token_half)
            die("no random bytes");
    }
    size_t total = (size_t)plan.targets * (plan.key_size + plan.head_size + plan.closer_size) +
                   (size_t)plan.connections * plan.prefix_size + (size_t)plan.window * plan.tag_size +
                   plan.body_size + plan.greeting_size + plan.greeted_size;
    uint8_t *tables = malloc(total + 1);
    if (tables == NULL)
        die("memory");
    if (fread(tables, 1, total + 1, file) != total)
        reject("the plan's tables have another size than its header says");
    fclose(file);
    const uint8_t *at = tables;
    keys = next_table(&at, plan.targets, plan.key_size);
    prefixes = next_table(&at, plan.connections, plan.prefix_size);
    heads = next_table(&at, plan.targets, plan.head_size);
    tags = next_table(&at, plan.window, plan.tag_size);
    body = next_table(&at, 1, plan.body_size);
    closers = next_table(&at, plan.targets, plan.closer_size);
    greeting = next_table(&at, 1, plan.greeting_size);
    greeted = next_table(&at, 1, plan.greeted_size);
    random_state = plan.seed | 1;
    return tables;
}

static void read_inherited(const char *path) {
    uint32_t *numbers = calloc(plan.connections, sizeof *numbers);
    FILE *file = fopen(path, "rb");
    if (file == NULL || numbers == NULL)
        die("the connections can't be read");
    if (fread(numbers, sizeof *numbers, plan.connections, file) != plan.connections)
        reject("there are fewer connections than the plan has");
    fclose(file);
    inherited = numbers;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    rlim_t wanted = plan.connections + 64;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("getrlimit");
    if (limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("setrlimit");
}

/* Waits until stdin brings a byte (true), or ends or stays silent for `milliseconds` (false). */
static bool stdin_speaks(int milliseconds) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    return poll(&in, 1, milliseconds) > 0 && read(STDIN_FILENO, &byte, 1) == 1;
}

static bool done(uint64_t now) {
    if (open_count == 0)
        return true;
    if (in_flight > 0)
        return false;
    if (plan.mode == MODE_SEND)
        return !more_to_send(now);
    if (plan.mode == MODE_DRAIN && !own_mailboxes())
        return next_target >= plan.targets;
    return started >= plan.connections;
}

/* True when the limit cut it short. */
static bool run(uint64_t begin) {
    static struct epoll_event events[EVENTS];
    /* Where stdin ends, the one who started this has gone: nobody wants to know. A byte ends the sends now. */
    struct epoll_event ends = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &ends);
    deadline = begin + plan.run_time;
    for (uint32_t i = 0; i < plan.connections; i++)
        if (connections[i].fd >= 0)
            refill(&connections[i], nanoseconds());
    if (plan.mode == MODE_IDLE && plan.targets == 0)
        return false;
    start_connections(begin);
    for (uint64_t now = nanoseconds(); !done(now); now = nanoseconds()) {
        if (now - begin >= plan.limit_time)
            return true;
        int ready = epoll_wait(epoll_fd, events, EVENTS, 20);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                char byte;
                if (read(STDIN_FILENO, &byte, 1) != 1)
                    exit(3);
                deadline = 0;
                if (plan.run_time == 0)
                    plan.run_time = 1;
                continue;
            }
            if (c->fd >= 0 && (events[i].events & EPOLLOUT))
                write_requests(c);
            if (c->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT))
                readable(c);
        }
        start_connections(nanoseconds());
    }
    return false;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print_number(const char *name, uint64_t value) {
    printf("\"%s\": %llu, ", name, (unsigned long long)value);
}

static void print_report(uint64_t opened, double seconds, double cpu, bool cut_short) {
    printf("{");
    print_number("opened", opened);
    print_number("sent", counts.sent);
    print_number("acknowledged", counts.acknowledged);
    print_number("refused", counts.refused);
    print_number("wrong", counts.wrong);
    print_number("unexpected", counts.unexpected);
    print_number("unanswered", counts.unanswered + in_flight);
    print_number("closed_early", counts.closed_early);
    print_number("responses", counts.responses);
    print_number("messages", counts.messages);
    print_number("content_bytes", counts.content_bytes);
    print_number("wrong_size", counts.wrong_size);
    print_number("disordered", counts.disordered);
    print_number("finished_targets", counts.finished_targets);
    print_number("slowest", counts.slowest);
    printf("\"cut_short\": %s, \"seconds\": %.9f, \"cpu_seconds\": %.6f, \"latencies\": {", cut_short ? "true" : "false",
           seconds, cpu);
    const char *comma = "";
    for (int i = 0; i < BUCKETS; i++)
        if (histogram[i] > 0) {
            printf("%s\"%d\": %llu", comma, i, (unsigned long long)histogram[i]);
            comma = ", ";
        }
    printf("}, \"per_target\": [");
    for (uint32_t i = 0; i < plan.targets; i++)
        printf("%s%llu", i > 0 ? ", " : "", (unsigned long long)per_target[i]);
    printf("]}\n");
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 2 && count != 3)
        reject("usage: loadgen PLAN-FILE [CONNECTIONS-FILE]");
    const uint8_t *tables = read_plan(arguments[1]);
    if (count == 3)
        read_inherited(arguments[2]);
    raise_descriptor_limit();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(plan.connections, sizeof *connections);
    struct flight *flights = calloc((size_t)plan.connections * ring_size, sizeof *flights);
    per_target = calloc(plan.targets + 1, sizeof *per_target);
    if (epoll_fd < 0 || connections == NULL || flights == NULL || per_target == NULL)
        die("memory");
    for (uint32_t i = 0; i < plan.connections; i++) {
        connections[i].number = i;
        connections[i].fd = -1;
        connections[i].flights = flights + (size_t)i * ring_size;
        if (!open_connection(&connections[i]))
            die("a connection can't be opened");
    }
    puts("ready");
    fflush(stdout);
    if (stdin_speaks(GO_SECONDS * 1000)) {
        double cpu = cpu_seconds();
        uint64_t begin = nanoseconds(), opened = open_count;
        bool cut_short = run(begin);
        uint64_t end = last_answer_at > begin ? last_answer_at : begin;
        print_report(opened, (double)(end - begin) / 1e9, cpu_seconds() - cpu, cut_short);
        stdin_speaks((int)(plan.hold_time / 1000000));
    }
    free((void *)tables);
    free((void *)inherited);
    return 0;
}
