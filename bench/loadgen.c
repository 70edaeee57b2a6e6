/* The load generator: one epoll loop that speaks part 1 of the client protocol to 127.0.0.1.
 *
 * Owns: the bytes of a load, and the count of every answer to it.
 * Promises: never the bottleneck (well below a microsecond a message when requests are pipelined); every answer is
 * checked; bounded in connections, messages and time, and it ends by itself, also when the one who started it dies.
 * Exposure: started by bench/generator.py alone, which writes the plan.
 *
 *     loadgen PLAN-FILE
 *
 * It opens the connections, prints "ready", waits for one byte on stdin, does the work, prints its report as one line
 * of JSON, keeps the connections open until stdin ends, and ends. bench/plan.py has the plan's and the report's other
 * end and says what every field means; bench/slow_generator.py does the same in Python, slower.
 *
 * A request is prefix (one for each connection) + head (one for each target) + body (the same for all): nothing is
 * encoded or copied while the load runs. Another server's protocol needs other prefixes, heads and bodies, which come
 * with the plan, and another take_... function for its answers, below.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MODE_SEND = 1, MODE_DRAIN = 2, MODE_IDLE = 3 };
enum { FLAG_CLOSE_EACH = 1 };
enum { CODE_STORED = 2103, CODE_WAITING = 2104, CODE_ERROR = 9000 };
enum { HEADER_SIZE = 7, STORED_SIZE = 20, ID_SIZE = 16, ENTRY_SIZE = 25 };
enum { READ_SIZE = 1 << 18, PIECES = 1023, EVENTS = 512, LARGEST_SKIP = 1 << 20 };
enum { CONNECT_SECONDS = 10, GO_SECONDS = 120 };

/* bench/plan.py, PLAN_HEADER. Sizes are bytes, times nanoseconds. */
struct plan {
    char magic[4];
    uint32_t mode, port, connections, window, flags, sources;
    uint32_t targets, key_size, prefix_size, head_size, body_size, content_size, reserved;
    uint64_t messages, run_time, limit_time, hold_time, seed;
};
_Static_assert(sizeof(struct plan) == 96, "the plan's header has no gaps");

struct flight {
    uint64_t sent_at;
    uint32_t target;
};

struct connection {
    int fd;
    uint32_t number;
    bool watching_writes;
    /* A ring of `window` requests, oldest first; the first `written` of `count` are with the kernel, and `offset`
     * bytes of the one after them. */
    struct flight *flights;
    uint32_t oldest, count, written;
    size_t offset;
    /* Where the answers' stream stands. */
    uint8_t held[HEADER_SIZE + STORED_SIZE];
    uint32_t held_size;
    bool in_payload, skipping, empty_response;
    uint64_t payload_left, content_left;
    /* Draining. */
    uint32_t last_id;
};

static struct plan plan;
static const uint8_t *keys, *prefixes, *heads, *body;
static struct connection *connections;
static int epoll_fd = -1;
static size_t request_size;

static uint64_t sent, acknowledged, refused, wrong, unexpected, unanswered, closed_early;
static uint64_t responses, messages, content_bytes, wrong_size, disordered, finished_targets;
static uint64_t in_flight, open_count, last_answer_at, deadline;
static uint32_t next_target, started;
static uint64_t random_state;

enum { LINEAR = 64, BUCKETS = LINEAR + 58 * LINEAR };
static uint64_t histogram[BUCKETS], slowest;
static uint64_t *per_target;

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

static uint32_t read_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t read_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

/* bench/histogram.py has the same rule. */
static void record(uint64_t latency) {
    uint64_t index = latency;
    if (latency >= LINEAR) {
        int shift = 63 - __builtin_clzll(latency) - 6;
        index = (uint64_t)shift * LINEAR + (latency >> shift);
    }
    histogram[index]++;
    if (latency > slowest)
        slowest = latency;
}

static uint32_t random_target(void) { /* xorshift64*, scaled */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    uint64_t high = (random_state * 2685821657736338717u) >> 32;
    return (uint32_t)((high * plan.targets) >> 32);
}

/* --- connections ------------------------------------------------------------------------------------------- */

static void watch(struct connection *c, bool writes, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0)
        die("epoll_ctl");
    c->watching_writes = writes;
}

static bool open_connection(struct connection *c) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int one = 1;
    struct timeval patience = {.tv_sec = CONNECT_SECONDS};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
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
    in_flight -= c->count;
    unanswered += c->count;
    c->count = c->written = 0;
    c->offset = 0;
    c->held_size = 0;
    c->in_payload = false;
}

static void lose_connection(struct connection *c) {
    closed_early++;
    close_connection(c);
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void write_requests(struct connection *c) {
    static struct iovec pieces[PIECES];
    while (c->written < c->count) {
        int used = 0;
        size_t skip = c->offset, total = 0;
        for (uint32_t i = c->written; i < c->count && used + 3 <= PIECES; i++) {
            uint32_t target = c->flights[(c->oldest + i) % plan.window].target;
            const struct { const uint8_t *at; size_t size; } parts[3] = {
                {prefixes + (size_t)c->number * plan.prefix_size, plan.prefix_size},
                {heads + (size_t)target * plan.head_size, plan.head_size},
                {body, plan.body_size},
            };
            for (int part = 0; part < 3; part++) {
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
        size_t past = c->offset + (size_t)taken;
        c->written += (uint32_t)(past / request_size);
        c->offset = past % request_size;
        if ((size_t)taken < total)
            break;
    }
    bool writes = c->written < c->count;
    if (writes != c->watching_writes)
        watch(c, writes, EPOLL_CTL_MOD);
}

static void ask(struct connection *c, uint32_t target, uint64_t now) {
    struct flight *flight = &c->flights[(c->oldest + c->count) % plan.window];
    flight->sent_at = now;
    flight->target = target;
    c->count++;
    in_flight++;
    sent++;
}

static bool more_to_send(uint64_t now) {
    return (plan.messages == 0 || sent < plan.messages) && (plan.run_time == 0 || now < deadline);
}

/* Gives a connection what it should have in flight now. */
static void refill(struct connection *c, uint64_t now) {
    if (plan.mode == MODE_SEND)
        while (c->count < plan.window && more_to_send(now))
            ask(c, random_target(), now);
    else if (plan.mode == MODE_DRAIN && c->count == 0 && next_target < plan.targets) {
        c->last_id = 0;
        ask(c, next_target++, now);
    }
    if (c->written < c->count)
        write_requests(c);
}

/* In idle mode every connection asks once, `window` at a time, so that the server is never under load. */
static void start_idle_requests(uint64_t now) {
    while (plan.mode == MODE_IDLE && started < plan.connections && in_flight < plan.window) {
        struct connection *c = &connections[started++];
        if (c->fd >= 0) {
            ask(c, c->number % plan.targets, now);
            write_requests(c);
        }
    }
}

/* --- answers ----------------------------------------------------------------------------------------------- */

static struct flight answered(struct connection *c, uint64_t now) {
    struct flight flight = c->flights[c->oldest];
    c->oldest = (c->oldest + 1) % plan.window;
    c->count--;
    c->written--;
    in_flight--;
    last_answer_at = now;
    return flight;
}

/* The end of a 2104. False: the connection was closed, as the plan wants it, or lost. */
static bool pulled(struct connection *c, uint64_t now) {
    struct flight flight = answered(c, now);
    responses++;
    record(now - flight.sent_at);
    if (plan.mode == MODE_IDLE)
        return true;
    if (c->empty_response)
        finished_targets++;
    if (plan.flags & FLAG_CLOSE_EACH) {
        bool more = !c->empty_response || next_target < plan.targets;
        close_connection(c);
        if (more && !open_connection(c)) {
            closed_early++;
            return false;
        }
    }
    if (!c->empty_response)
        ask(c, flight.target, now);
    if (plan.flags & FLAG_CLOSE_EACH) {
        if (c->fd >= 0)
            refill(c, now);
        return false;
    }
    return true;
}

/* One header, and 2103's payload with it. False: the connection is gone. */
static bool take_head(struct connection *c, const uint8_t *head, uint64_t now) {
    uint32_t code = read_u16(head + 1), size = read_u32(head + 3);
    if (c->written == 0) { /* nothing was asked */
        unexpected++;
        lose_connection(c);
        return false;
    }
    if (code == CODE_STORED && size == STORED_SIZE && plan.mode == MODE_SEND) {
        struct flight flight = answered(c, now);
        if (memcmp(head + HEADER_SIZE, keys + (size_t)flight.target * plan.key_size, ID_SIZE) == 0) {
            acknowledged++;
            record(now - flight.sent_at);
            per_target[flight.target]++;
        } else
            wrong++;
        return true;
    }
    if (code == CODE_WAITING && plan.mode != MODE_SEND) {
        c->empty_response = size == 0;
        c->payload_left = size;
        c->content_left = 0;
        c->in_payload = size > 0;
        c->skipping = false;
        return size > 0 || pulled(c, now);
    }
    answered(c, now);
    if (code == CODE_ERROR && size == 0) {
        refused++;
        return true;
    }
    unexpected++;
    if (size > LARGEST_SKIP) {
        lose_connection(c);
        return false;
    }
    c->payload_left = size;
    c->in_payload = size > 0;
    c->skipping = true;
    return true;
}

/* One message's head inside a 2104. False: it does not fit, and the connection is gone. */
static bool take_entry(struct connection *c, const uint8_t *entry) {
    uint32_t id = read_u32(entry + ID_SIZE), size = read_u32(entry + ID_SIZE + 5);
    c->payload_left -= ENTRY_SIZE;
    if (size > c->payload_left) {
        unexpected++;
        lose_connection(c);
        return false;
    }
    messages++;
    content_bytes += size;
    per_target[c->flights[c->oldest].target]++;
    if (plan.content_size != 0 && size != plan.content_size)
        wrong_size++;
    if (id <= c->last_id)
        disordered++;
    c->last_id = id;
    c->content_left = size;
    return true;
}

/* How many bytes must stand together for the next step, as far as the `seen` ones tell. */
static size_t step_size(const struct connection *c, const uint8_t *at, size_t seen) {
    if (c->in_payload)
        return ENTRY_SIZE;
    if (plan.mode == MODE_SEND && seen >= HEADER_SIZE && read_u16(at + 1) == CODE_STORED &&
        read_u32(at + 3) == STORED_SIZE)
        return HEADER_SIZE + STORED_SIZE;
    return HEADER_SIZE;
}

/* Takes what has arrived and holds the beginning of what has not arrived whole. False: the connection is gone. */
static bool take_bytes(struct connection *c, const uint8_t *at, size_t left, uint64_t now) {
    for (;;) {
        size_t step;
        if (c->in_payload && (c->skipping || c->content_left > 0)) {
            uint64_t wanted = c->skipping ? c->payload_left : c->content_left;
            if (left == 0)
                return true;
            step = wanted < left ? (size_t)wanted : left;
            c->payload_left -= step;
            c->content_left -= c->skipping ? 0 : step;
        } else if (c->in_payload && c->payload_left < ENTRY_SIZE) {
            unexpected++;
            lose_connection(c);
            return false;
        } else {
            step = step_size(c, at, left);
            if (left < step) {
                memcpy(c->held, at, left);
                c->held_size = (uint32_t)left;
                return true;
            }
            if (!(c->in_payload ? take_entry(c, at) : take_head(c, at, now)))
                return false;
        }
        at += step;
        left -= step;
        if (c->in_payload && c->payload_left == 0) {
            c->in_payload = false;
            if (!c->skipping && !pulled(c, now))
                return false;
        }
    }
}

static void readable(struct connection *c) {
    static uint8_t input[HEADER_SIZE + STORED_SIZE + READ_SIZE];
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
    if (take_bytes(c, input, whole, now))
        refill(c, now);
}

/* --- the run ----------------------------------------------------------------------------------------------- */

static const uint8_t *read_plan(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("the plan can't be opened");
    if (fread(&plan, sizeof plan, 1, file) != 1 || memcmp(plan.magic, "MUB1", 4) != 0)
        reject("this is no plan");
    if (plan.mode < MODE_SEND || plan.mode > MODE_IDLE || plan.connections == 0 || plan.window == 0 ||
        plan.limit_time == 0 || plan.port == 0 || plan.port > 65535 ||
        (plan.targets == 0 && plan.mode != MODE_IDLE) || (plan.mode != MODE_IDLE && plan.key_size < ID_SIZE) ||
        (plan.mode == MODE_SEND && plan.messages == 0 && plan.run_time == 0))
        reject("the plan asks for nothing that can be done");
    size_t key_bytes = (size_t)plan.targets * plan.key_size;
    size_t prefix_bytes = (size_t)plan.connections * plan.prefix_size;
    size_t head_bytes = (size_t)plan.targets * plan.head_size;
    size_t total = key_bytes + prefix_bytes + head_bytes + plan.body_size;
    uint8_t *tables = malloc(total + 1);
    if (tables == NULL)
        die("memory");
    if (fread(tables, 1, total + 1, file) != total)
        reject("the plan's tables have another size than its header says");
    fclose(file);
    keys = tables;
    prefixes = keys + key_bytes;
    heads = prefixes + prefix_bytes;
    body = heads + head_bytes;
    request_size = (size_t)plan.prefix_size + plan.head_size + plan.body_size;
    random_state = plan.seed | 1;
    return tables;
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
    if (plan.mode == MODE_DRAIN)
        return next_target >= plan.targets;
    return started >= plan.connections;
}

/* True when the limit cut it short. */
static bool run(uint64_t begin) {
    static struct epoll_event events[EVENTS];
    /* Where stdin ends, the one who started this has gone: nobody wants to know. */
    struct epoll_event ends = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &ends);
    deadline = begin + plan.run_time;
    for (uint32_t i = 0; i < plan.connections; i++)
        if (connections[i].fd >= 0)
            refill(&connections[i], nanoseconds());
    if (plan.mode == MODE_IDLE && plan.targets == 0)
        return false;
    start_idle_requests(begin);
    for (uint64_t now = nanoseconds(); !done(now); now = nanoseconds()) {
        if (now - begin >= plan.limit_time)
            return true;
        int ready = epoll_wait(epoll_fd, events, EVENTS, 20);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL)
                exit(3);
            if (c->fd >= 0 && (events[i].events & EPOLLOUT))
                write_requests(c);
            if (c->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT))
                readable(c);
        }
        start_idle_requests(nanoseconds());
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
    print_number("sent", sent);
    print_number("acknowledged", acknowledged);
    print_number("refused", refused);
    print_number("wrong", wrong);
    print_number("unexpected", unexpected);
    print_number("unanswered", unanswered + in_flight);
    print_number("closed_early", closed_early);
    print_number("responses", responses);
    print_number("messages", messages);
    print_number("content_bytes", content_bytes);
    print_number("wrong_size", wrong_size);
    print_number("disordered", disordered);
    print_number("finished_targets", finished_targets);
    print_number("slowest", slowest);
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
    if (count != 2)
        reject("usage: loadgen PLAN-FILE");
    const uint8_t *tables = read_plan(arguments[1]);
    raise_descriptor_limit();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(plan.connections, sizeof *connections);
    struct flight *flights = calloc((size_t)plan.connections * plan.window, sizeof *flights);
    per_target = calloc(plan.targets + 1, sizeof *per_target);
    if (epoll_fd < 0 || connections == NULL || flights == NULL || per_target == NULL)
        die("memory");
    for (uint32_t i = 0; i < plan.connections; i++) {
        connections[i].number = i;
        connections[i].fd = -1;
        connections[i].flights = flights + (size_t)i * plan.window;
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
    return 0;
}
