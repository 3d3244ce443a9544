/* Many Trickles clients in one process, as a load on a server: see `USAGE`.
 *
 *   cc -O2 -o generator main.c flow.c -lm
 *
 * Each datagram is one of its own, as those of different clients are; several sockets are several
 * client ports. The loop is closed: the next request is made when one is answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "flow.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define BATCH 64
#define MOST_SOCKETS 64
#define LARGEST 65536
#define BUFFER_BYTES (8 << 20)
#define TICK_S 0.004
#define TICK_S_PER_FLOW 4e-6 /* a look at a flow is a cache miss */

static const char USAGE[] =
    "generator NAME=VALUE ...\n"
    "  host=127.0.0.1 port=8000 path=/   what to GET\n"
    "  body=BYTES       length of the right answer's body\n"
    "  mode=get         requests on open flows; new: a flow for each request\n"
    "  flows=64         open flows; in_flight=64: those with a request at a time, in turn\n"
    "  seconds=5 warm_up=0.5   measured, after all flows are open and the warm-up is over\n"
    "  requests=0       end after so many, warm-up included; 0: by time\n"
    "  sockets=8        client ports\n"
    "  size=16376       largest datagram asked for\n"
    "  patience=10      end after so many seconds without an answer\n";

typedef struct {
    const char *host, *path, *mode;
    long port, body, flows, in_flight, requests, sockets, size;
    double seconds, warm_up, patience;
} options;

static options given = {"127.0.0.1", "/", "get", 8000, -1, 64, 64, 0, 8, 16376, 5, 0.5, 10};

typedef struct {
    int fd;
    unsigned count;
    struct mmsghdr out[BATCH];
    struct iovec vectors[BATCH];
    uint8_t bytes[BATCH][2048];
    uint8_t token[LONGEST_CONTINUATION]; /* of the last flow that was answered at this port */
    unsigned token_length;
} port;

static port *ports;
static flow *flows;
static unsigned *idle; /* a ring of flows without a request */
static unsigned idle_first, idle_count;
static unsigned touched[BATCH * 64], touched_count;
static int is_new;
static double now, began, measured_from, heard_at;
static long answered, measured, errors, wrong, sent, received, not_sent;
static float *latencies;
static long latency_count, latency_room;
static uint32_t word;

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- sending */

static void flush(port *p) {
    unsigned at = 0;
    while (at < p->count) {
        int n = sendmmsg(p->fd, p->out + at, p->count - at, 0);
        if (n < 0) { /* as if the network had lost one */
            not_sent++;
            n = 1;
        }
        at += (unsigned)n;
    }
    sent += p->count;
    p->count = 0;
}

static void queue(flow *f, const uint8_t *datagram, unsigned length) {
    port *p = &ports[f->socket];
    if (p->count == BATCH) flush(p);
    memcpy(p->bytes[p->count], datagram, length);
    p->vectors[p->count].iov_len = length;
    p->count++;
}

static void ask(flow *f) {
    port *p = &ports[f->socket];
    int fits = HELLO_HEADER + p->token_length + shared.request_bytes <= BASE_DATAGRAM;
    flow_ask(f, p->token, fits ? p->token_length : 0, now);
}

static void ask_next(void) {
    if (!idle_count) return;
    flow *f = &flows[idle[idle_first]];
    idle_first = (idle_first + 1) % (unsigned)given.flows;
    idle_count--;
    ask(f);
}

static void done(flow *f) {
    port *p = &ports[f->socket];
    if (f->failed) {
        errors++;
        wrong += f->wrong;
    } else {
        answered++;
        memcpy(p->token, f->best.bytes, f->best.length);
        p->token_length = f->best.length;
        if (measured_from > 0) {
            measured++;
            if (latency_count == latency_room) {
                latency_room = latency_room ? 2 * latency_room : 1 << 16;
                latencies = realloc(latencies, (size_t)latency_room * sizeof(float));
                if (!latencies) die("memory");
            }
            latencies[latency_count++] = (float)((clock_now() - f->asked_at) * 1e6);
        }
    }
    if (is_new || f->over) flow_begin(f, f->index, f->socket, word += 0x9e3779b9u);
    idle[(idle_first + idle_count++) % (unsigned)given.flows] = f->index;
}

/* ---- receiving */

static uint8_t buffers[BATCH][LARGEST];

static void take(const uint8_t *datagram, unsigned length) {
    received++;
    if (length < 9) return;
    unsigned index = (unsigned)get16(datagram + 1) << 16 | get16(datagram + 7);
    if (index >= (unsigned)given.flows || memcmp(flows[index].id, datagram + 1, 8)) return;
    flow *f = &flows[index];
    flow_receive(f, datagram, length, now);
    if (!f->touched && touched_count < sizeof touched / sizeof *touched) {
        f->touched = 1;
        touched[touched_count++] = index;
    }
}

/* Length of the datagrams that the kernel delivered in one piece. */
static unsigned segment_of(struct msghdr *m, unsigned length) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 ? (unsigned)size : length;
        }
    return length;
}

static void receive(port *p) {
    static struct mmsghdr in[BATCH];
    static struct iovec vectors[BATCH];
    static uint8_t control[BATCH][64];
    for (unsigned i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){buffers[i], LARGEST};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = control[i],
                                        .msg_controllen = sizeof control[i]};
    }
    int n = recvmmsg(p->fd, in, BATCH, MSG_DONTWAIT, NULL);
    if (n < 0) return; /* nothing, or nobody listens: silence will tell */
    now = heard_at = clock_now();
    for (int i = 0; i < n; i++) {
        unsigned length = in[i].msg_len, size = segment_of(&in[i].msg_hdr, length);
        for (unsigned at = 0; at < length; at += size) {
            take(buffers[i] + at, length - at < size ? length - at : size);
        }
    }
    for (unsigned i = 0; i < touched_count; i++) {
        flow *f = &flows[touched[i]];
        f->touched = 0;
        flow_advance(f, now);
    }
    touched_count = 0;
}

/* ---- the run */

static void open_ports(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)given.port)};
    if (inet_pton(AF_INET, given.host, &to.sin_addr) != 1) {
        fprintf(stderr, "generator: host=%s: give an IPv4 address\n", given.host);
        exit(2);
    }
    ports = calloc((size_t)given.sockets, sizeof *ports);
    if (!ports) die("memory");
    for (long i = 0; i < given.sockets; i++) {
        port *p = &ports[i];
        int bytes = BUFFER_BYTES, yes = 1;
        p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&to, sizeof to)) die("socket");
        if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
            setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        setsockopt(p->fd, IPPROTO_UDP, UDP_GRO, &yes, sizeof yes);
        for (unsigned j = 0; j < BATCH; j++) {
            p->vectors[j].iov_base = p->bytes[j];
            p->out[j].msg_hdr = (struct msghdr){.msg_iov = &p->vectors[j], .msg_iovlen = 1};
        }
    }
}

static void tick(void) {
    for (long i = 0; i < given.flows; i++) {
        double due = flow_deadline(&flows[i]);
        if (due > 0 && due <= now) flow_tick(&flows[i], now);
    }
}

static int ended(void) {
    if (given.requests && answered + errors >= given.requests) return 1;
    return measured_from > 0 && !given.requests && now >= measured_from + given.seconds;
}

static void run(void) {
    struct epoll_event events[MOST_SOCKETS];
    int poll = epoll_create1(0);
    for (long i = 0; i < given.sockets; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(poll, EPOLL_CTL_ADD, ports[i].fd, &e);
    }
    double tick_at = 0;
    now = began = heard_at = clock_now();
    while (!ended()) {
        if (now >= tick_at) {
            tick_at = now + TICK_S + (double)given.flows * TICK_S_PER_FLOW;
            tick();
        }
        while (idle_count && given.flows - (long)idle_count < given.in_flight) ask_next();
        for (long i = 0; i < given.sockets; i++) flush(&ports[i]);
        int n = epoll_wait(poll, events, MOST_SOCKETS, (int)(TICK_S * 1000));
        now = clock_now();
        for (int i = 0; i < n; i++) receive(&ports[events[i].data.u32]);
        if (measured_from == 0 && answered >= given.flows && now >= began + given.warm_up) measured_from = now;
        if (now > heard_at + given.patience) {
            fprintf(stderr, "generator: no answer for %g s: is the server at %s:%ld running?\n", given.patience,
                    given.host, given.port);
            exit(1);
        }
    }
    close(poll);
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    if (!latency_count) return 0;
    long i = (long)(share * (double)(latency_count - 1) + 0.5);
    return latencies[i];
}

static void print(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    qsort(latencies, (size_t)latency_count, sizeof(float), by_size);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"requests in all\": %ld, \"errors\": %ld, \"wrong\": %ld,\n", measured,
           measured_from > 0 ? now - measured_from : 0.0, answered, errors, wrong);
    printf(" \"p50 us\": %.1f, \"p90 us\": %.1f, \"p99 us\": %.1f, \"max us\": %.1f,\n", percentile(.5), percentile(.9),
           percentile(.99), percentile(1));
    printf(" \"cpu seconds\": %.6f, \"bytes\": %ld, \"datagrams out\": %ld, \"datagrams in\": %ld, \"not sent\": %ld,\n",
           cpu, shared.bytes, sent, received, not_sent);
    printf(" \"openings\": %ld, \"claims\": %ld, \"losses\": %ld, \"timeouts\": %ld, \"foreign\": %ld,\n", shared.openings,
           shared.claims, shared.losses, shared.timeouts, shared.foreign);
    printf(" \"acks\": %ld, \"needs\": %ld, \"waits\": %ld, \"refused\": {", shared.acks, shared.needs, shared.waits);
    const char *comma = "";
    for (int i = 0; i < CODES; i++)
        if (shared.refusals[i]) {
            printf("%s\"%d\": %ld", comma, i, shared.refusals[i]);
            comma = ", ";
        }
    printf("}}\n");
}

static void parse(int count, char **words) {
    struct { const char *name; long *number; double *real; const char **text; } known[] = {
        {"host", NULL, NULL, &given.host},         {"path", NULL, NULL, &given.path},
        {"mode", NULL, NULL, &given.mode},         {"port", &given.port, NULL, NULL},
        {"body", &given.body, NULL, NULL},         {"flows", &given.flows, NULL, NULL},
        {"in_flight", &given.in_flight, NULL, NULL}, {"requests", &given.requests, NULL, NULL},
        {"sockets", &given.sockets, NULL, NULL},   {"size", &given.size, NULL, NULL},
        {"seconds", NULL, &given.seconds, NULL},   {"warm_up", NULL, &given.warm_up, NULL},
        {"patience", NULL, &given.patience, NULL},
    };
    for (int i = 1; i < count; i++) {
        char *value = strchr(words[i], '=');
        unsigned j = 0, n = sizeof known / sizeof *known;
        while (value && j < n && (strncmp(words[i], known[j].name, (size_t)(value - words[i])) ||
                                  known[j].name[value - words[i]])) j++;
        if (!value || j == n) {
            fprintf(stderr, "generator: %s is no option\n%s", words[i], USAGE);
            exit(2);
        }
        value++;
        if (known[j].number) *known[j].number = strtol(value, NULL, 10);
        else if (known[j].real) *known[j].real = strtod(value, NULL);
        else *known[j].text = value;
    }
    is_new = !strcmp(given.mode, "new");
    if (given.body < 0 || given.flows < 1 || given.sockets < 1 || given.sockets > MOST_SOCKETS ||
        given.in_flight < 1 || (!is_new && strcmp(given.mode, "get"))) {
        fprintf(stderr, "%s", USAGE);
        exit(2);
    }
    if (given.sockets > given.flows) given.sockets = given.flows;
}

int main(int count, char **words) {
    static char request[1024];
    parse(count, words);
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%ld\r\n\r\n", given.path, given.host,
                          given.port);
    if (length > 600) {
        fprintf(stderr, "generator: path=%s is too long\n", given.path);
        return 2;
    }
    shared.request = (const uint8_t *)request;
    shared.request_bytes = (unsigned)length;
    shared.body_bytes = (uint64_t)given.body;
    shared.size = (unsigned)given.size;
    shared.send = queue;
    shared.done = done;
    if (getrandom(&word, sizeof word, 0) != sizeof word) die("getrandom");
    flows = calloc((size_t)given.flows, sizeof *flows);
    idle = calloc((size_t)given.flows, sizeof *idle);
    if (!flows || !idle) die("memory");
    open_ports();
    for (long i = 0; i < given.flows; i++) {
        flow_begin(&flows[i], (unsigned)i, (unsigned)(i % given.sockets), word += 0x9e3779b9u);
        idle[idle_count++] = (unsigned)i;
    }
    run();
    print();
    return errors ? 1 : 0;
}
