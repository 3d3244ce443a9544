/* See flow.h. A loss is not repaired within its line: what was received of the line is proven, the
 * loss reported, and the next generation opened, which costs a round trip but halves the window as
 * it should. Round trips are not measured: silence means loss after a fixed time. Refusals are taken
 * at their word, whatever they echo: nobody else sends to these sockets.
 * What else is left out: notes, uploads, larger datagrams found by probing, earlier claims, and
 * refreshing continuations that grow old (45 s): a flow is never idle for so long here.
 */
#define _GNU_SOURCE
#include "flow.h"

#include <math.h>
#include <stdlib.h>

#define SILENCE_S 0.2
#define LONGEST_SILENCE_S 2.0
#define REORDERING 3
#define HOLE_S 0.004  /* a hole that nothing fills for so long is a loss, if later packets came, */
#define UNFINISHED_S 0.025 /* and if they did not: a server may be interrupted within a burst */
#define MOST_ATTEMPTS 10
#define PATIENCE 8 /* refusals in a row that end a flow */
#define PATIENCE_NOT_MINE 24
#define PATIENT_REPEATS 3
#define LARGEST_BURST 46
#define WINDOW_PER_BURST 8
#define SMALL_BURST 4
#define SMALL_WINDOW_PER_BURST 3
#define TWO_CARRIERS 8
#define CLAIM_PER_WINDOW 16
#define LONGEST_REACH 256
#define LARGEST_WINDOW 65535
#define SMALLEST_RING 16
#define MOST_NUMBERS (1u << 20) /* of a line in flight at a time */
#define RECEIVE_BUFFER (4u << 20) /* asked for and not yet here; what sockets can hold */

protocol shared;

/* ---- section 3: which numbers may fly */

static uint32_t window(const line *l, uint32_t k) {
    uint64_t d = k, w = l->cwnd0;
    if (!d) return (uint32_t)w;
    if (w < l->ssthresh) {
        if (d <= l->ssthresh - w) return (uint32_t)(w + d);
        d -= l->ssthresh - w;
        w = l->ssthresh;
    }
    uint64_t q = 2 * w - 1, square = q * q + 8 * d, root = (uint64_t)sqrt((double)square);
    while (root * root > square) root--;
    while ((root + 1) * (root + 1) <= square) root++;
    uint64_t now = w + (root - q) / 2;
    return now < LARGEST_WINDOW ? (uint32_t)now : LARGEST_WINDOW;
}

static uint32_t frontier(const line *l, uint32_t k) { return k + window(l, k); }

static uint32_t largest_burst(uint32_t w) {
    uint32_t small = w / SMALL_WINDOW_PER_BURST, most = w / WINDOW_PER_BURST;
    if (small > SMALL_BURST) small = SMALL_BURST;
    if (most > LARGEST_BURST) most = LARGEST_BURST;
    if (most < small) most = small;
    return most ? most : 1;
}

static uint32_t worth_claiming(uint32_t w) {
    uint32_t small = largest_burst(w), enough = w / CLAIM_PER_WINDOW;
    if (enough > LARGEST_BURST) enough = LARGEST_BURST;
    small = ((small < SMALL_BURST ? small : SMALL_BURST) + 1) / 2;
    return enough > small ? enough : small;
}

/* Response bytes of each packet of [low, high), in order; `carried` is what a carrier has less. */
typedef struct { const line *l; uint32_t low, high, parts, left, at; unsigned full, carried; } layout;

static layout lay_out(const line *l, uint32_t low, uint32_t high, unsigned size, unsigned carried) {
    uint32_t most = largest_burst(window(l, low));
    return (layout){l, low, high, (high - low + most - 1) / most, 0, 0, size - DATA_HEADER, carried};
}

static int next_room(layout *y, unsigned *room) {
    if (y->at == y->left) {
        if (y->low == y->high) return 0;
        y->left = (y->high - y->low + y->parts - 1) / y->parts;
        y->parts--;
        y->low += y->left;
        y->at = 0;
    }
    int carrier = y->at == 0 || (y->left >= TWO_CARRIERS && y->at == y->left - 1);
    y->at++;
    *room = carrier ? y->full - y->carried : y->full;
    return 1;
}

/* ---- bytes */

/* Keep [start, stop); what does not fit the list counts as not received. */
static int insert(flow *f, uint64_t start, uint64_t stop) {
    if (stop <= f->received) return 1;
    if (start <= f->received) {
        f->received = stop;
        unsigned gone = 0;
        while (gone < f->range_count && f->ranges[gone].start <= f->received) {
            if (f->ranges[gone].stop > f->received) f->received = f->ranges[gone].stop;
            gone++;
        }
        f->range_count -= gone;
        memmove(f->ranges, f->ranges + gone, f->range_count * sizeof(range));
    } else {
        unsigned i = 0;
        while (i < f->range_count && f->ranges[i].stop < start) i++;
        unsigned j = i;
        while (j < f->range_count && f->ranges[j].start <= stop) {
            if (f->ranges[j].start < start) start = f->ranges[j].start;
            if (f->ranges[j].stop > stop) stop = f->ranges[j].stop;
            j++;
        }
        if (i == j && f->range_count == MOST_RANGES) return 0;
        memmove(f->ranges + i + 1, f->ranges + j, (f->range_count - j) * sizeof(range));
        f->range_count = f->range_count - (j - i) + 1;
        f->ranges[i] = (range){start, stop};
    }
    if (stop > f->highest) f->highest = stop;
    return 1;
}

/* The response must be a 200 whose head is in its first packet. */
static void look_at_head(flow *f, const uint8_t *bytes, unsigned length) {
    static const char ok[] = "HTTP/1.1 200 ";
    const uint8_t *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end || length < sizeof ok || memcmp(bytes, ok, sizeof ok - 1)) f->wrong = 1;
    else f->head_bytes = (unsigned)(end + 4 - bytes);
}

/* ---- the line */

static void line_close(line *l) {
    for (uint32_t k = 0; k < l->ring_size; k++) free(l->ring[k].continuation);
    for (unsigned i = 0; i < l->waiting_count; i++) free(l->waiting[i].continuation);
    memset(l->ring, 0, l->ring_size * sizeof(packet));
    l->waiting_count = 0;
    l->open = 0;
}

/* Room in the ring for all numbers from the prefix up to `high`. */
static int line_reserve(line *l, uint32_t high) {
    uint32_t size = l->ring_size;
    if (high - l->prefix <= size) return 1;
    if (high - l->prefix > MOST_NUMBERS) return 0;
    while (size < high - l->prefix) size = size ? 2 * size : SMALLEST_RING;
    packet *ring = calloc(size, sizeof(packet));
    if (!ring) return 0;
    for (uint32_t k = l->prefix; k != l->prefix + l->ring_size; k++)
        ring[k & (size - 1)] = l->ring[k & (l->ring_size - 1)];
    free(l->ring);
    l->ring = ring;
    l->ring_size = size;
    return 1;
}

static int line_begin(flow *f, const uint8_t *d) {
    line *l = &f->line;
    if (get32(d + 17) || get32(d + 21) || !get16(d + 25) || !get16(d + 27)) return 0;
    if (l->open) line_close(l);
    l->ordinal = get32(d + 9);
    l->generation = get32(d + 13);
    l->cwnd0 = get16(d + 25);
    l->ssthresh = get16(d + 27);
    l->prefix = l->accounted = l->promised = l->highest = 0;
    l->ended = UINT32_MAX;
    l->proof = 0;
    l->foreseen = 0;
    l->size = 0;
    l->granted = l->cwnd0;
    l->open = 1;
    return line_reserve(l, l->granted);
}

/* How far the opening's answer will reach, now that the length of its carriers is known. */
static void foresee(flow *f, unsigned carried) {
    line *l = &f->line;
    layout y = lay_out(l, 0, l->cwnd0, l->size, carried);
    unsigned room;
    uint64_t reach = 0;
    for (unsigned i = 0; i < f->want_count; i++) {
        uint64_t at = f->wants[i].start;
        while (at < f->wants[i].stop && next_room(&y, &room)) {
            uint64_t left = f->wants[i].stop - at;
            at += room < left ? room : left;
            reach = at;
        }
    }
    if (reach > f->next_new) f->next_new = reach;
    l->foreseen = 1;
}

/* A continuation in a DATA packet; it waits at the last number of its burst. */
static void hold(flow *f, uint32_t burst, uint32_t stop, const uint8_t *c, unsigned n, unsigned carried) {
    line *l = &f->line;
    if (n < OVERHEAD || n > LONGEST_CONTINUATION || burst_of(c) != burst || stop_of(c) != stop) return;
    if (!f->incarnation) f->incarnation = incarnation_of(c);
    if (incarnation_of(c) != f->incarnation) { shared.foreign++; return; }
    l->size = size_of(c);
    if (!l->foreseen) foresee(f, carried);
    if (response_end(c) != UNKNOWN_END) f->end = response_end(c);
    packet *last = &l->ring[(stop - 1) & (l->ring_size - 1)];
    if (stop <= l->prefix || last->continuation) return;
    last->continuation = malloc(n);
    if (!last->continuation) abort();
    memcpy(last->continuation, c, n);
    last->length = (uint16_t)n;
}

static void settle(flow *f) {
    line *l = &f->line;
    for (;;) {
        packet *p = &l->ring[l->prefix & (l->ring_size - 1)];
        if (!p->arrived) return;
        l->proof ^= p->nonce;
        l->prefix++;
        if (p->continuation) {
            if (l->waiting_count == l->waiting_room) {
                l->waiting_room = l->waiting_room ? 2 * l->waiting_room : 4;
                l->waiting = realloc(l->waiting, l->waiting_room * sizeof(settled));
                if (!l->waiting) abort();
            }
            l->waiting[l->waiting_count++] = (settled){l->prefix, l->proof, p->continuation, p->length};
            memcpy(f->best.bytes, p->continuation, p->length);
            f->best.length = p->length;
            f->best.proof = l->proof;
            f->best.proven = 1;
        }
        *p = (packet){0};
    }
}

/* ---- requests */

static uint8_t *put_wants(uint8_t *p, const range *wants, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        p = put64(p, wants[i].start);
        p = put32(p, wants[i].stop == UNKNOWN_END ? OPEN_LENGTH : (uint32_t)(wants[i].stop - wants[i].start));
    }
    return p;
}

typedef struct { unsigned flags, attempt, size; uint64_t proof; uint32_t lost, start; } terms;

static void send_request(flow *f, terms t, const uint8_t *c, unsigned n, const range *wants,
                         unsigned want_count, unsigned carried) {
    uint8_t d[2048], *p = d;
    if (f->received > f->start) t.flags |= HANDED_ON;
    p = put8(p, REQUEST);
    p = put(p, f->id, 8);
    p = put8(p, t.flags);
    p = put8(p, t.attempt);
    p = put16(p, t.size);
    p = put64(p, t.proof);
    p = put32(p, f->edition);
    p = put32(p, t.lost);
    p = put32(p, t.start);
    p = put64(p, f->received);
    p = put8(p, want_count);
    p = put8(p, 0);
    p = put16(p, n);
    p = put16(p, carried);
    p = put(p, c, n);
    p = put_wants(p, wants, want_count);
    if (carried) {
        p = put64(p, f->request_start);
        p = put64(p, 0);
        p = put(p, shared.request, carried);
    }
    shared.send(f, d, (unsigned)(p - d));
}

static void want_everything(flow *f) {
    unsigned n = 0;
    uint64_t at = f->received;
    for (unsigned i = 0; i < f->range_count && n < MOST_WANTS - 1; i++) {
        f->wants[n++] = (range){at, f->ranges[i].start};
        at = f->ranges[i].stop;
    }
    if (n < MOST_WANTS && (at < f->end || !n)) {
        /* An end that is reached is asked for again: its continuation is missing. */
        uint64_t start = f->end != UNKNOWN_END && at >= f->end ? f->end - 1 : at;
        uint64_t stop = f->end;
        if (stop != UNKNOWN_END && stop - start >= OPEN_LENGTH) stop = start + OPEN_LENGTH - 1;
        f->wants[n++] = (range){start, stop};
    }
    f->want_count = n;
    f->next_new = f->received;
}

static double silence(const flow *f) {
    double s = SILENCE_S * (1 << (f->silences < 5 ? f->silences : 5));
    return s < LONGEST_SILENCE_S ? s : LONGEST_SILENCE_S;
}

static void send_opener(flow *f, double now) {
    const held *h = &f->opener;
    f->again_at = f->loss_at = 0;
    f->probe_at = now + silence(f);
    shared.openings++;
    int taken = !f->attach && request_wanted(h->bytes) > f->request_start;
    terms t = {OPENS, f->attempt, shared.size, h->proof, 0, f->claim_start};
    if (f->lost_reported) {
        t.flags |= LOST;
        t.lost = f->lost;
    }
    send_request(f, t, h->bytes, h->length, f->wants, f->want_count, taken ? 0 : shared.request_bytes);
}

static void send_hello(flow *f, double now) {
    uint8_t d[BASE_DATAGRAM] = {0}, *p = d;
    f->again_at = 0;
    f->probe_at = now + silence(f);
    p = put8(p, HELLO);
    p = put(p, f->id, 8);
    p = put8(p, f->attempt);
    p = put16(p, shared.size);
    p = put16(p, f->opener.length); /* the token */
    p = put16(p, shared.request_bytes);
    p = put8(p, 0);
    p = put(p, f->opener.bytes, f->opener.length);
    put(p, shared.request, shared.request_bytes);
    shared.send(f, d, sizeof d);
}

/* Open by proof from the best continuation, by attempt if nothing can be proven. */
static void open_from(flow *f, const held *h, double now) {
    if (h != &f->opener) f->opener = *h;
    f->claim_start = stop_of(h->bytes);
    f->lost_reported = 0;
    f->attempt = h->proven || is_refreshed(h->bytes) ? 0 : 1;
    f->accepts_ordinal = (int64_t)ordinal_of(h->bytes) + 1;
    f->accepts_attempt = -1;
    f->opening = 1;
    if (f->line.open) line_close(&f->line);
    want_everything(f);
    send_opener(f, now);
}

/* A number did not arrive: open the next generation from what is proven, and report the loss. */
static void open_after_loss(flow *f, double now) {
    line *l = &f->line;
    uint32_t lost = l->prefix;
    uint64_t proof = l->proof;
    shared.losses++;
    for (uint32_t k = l->promised; k > lost; k--) { /* the highest continuation at hand */
        packet *p = &l->ring[(k - 1) & (l->ring_size - 1)];
        if (!p->continuation) continue;
        memcpy(f->best.bytes, p->continuation, p->length);
        f->best.length = p->length;
        f->best.proof = proof;
        f->best.proven = 1;
        f->opener = f->best;
        f->claim_start = k;
        f->lost = lost;
        f->lost_reported = 1;
        f->attempt = 0;
        f->accepts_ordinal = (int64_t)l->ordinal + 1;
        f->accepts_attempt = -1;
        f->opening = 1;
        line_close(l);
        want_everything(f);
        send_opener(f, now);
        return;
    }
    if (f->best.length && ordinal_of(f->best.bytes) == l->ordinal) open_from(f, &f->best, now);
}

static void fail(flow *f) {
    if (f->line.open) line_close(&f->line);
    f->failed = f->over = 1;
    f->active = 0;
    f->probe_at = f->again_at = f->loss_at = 0;
    shared.done(f);
}

/* After silence: one request, from the best continuation, by the next attempt. */
static void retry(flow *f, double now) {
    if (!f->opening) {
        if (!f->best.length) { fail(f); return; }
        int64_t ordinal = (int64_t)ordinal_of(f->best.bytes) + 1;
        f->opener = f->best;
        f->opener.proof = 0;
        f->lost_reported = 0;
        f->attempt = 0;
        if (f->accepts_ordinal == ordinal && f->accepts_attempt > 0) f->attempt = (unsigned)f->accepts_attempt;
        else if (f->accepts_ordinal != ordinal) f->accepts_attempt = -1;
        f->accepts_ordinal = ordinal;
        f->claim_start = stop_of(f->best.bytes);
        f->opening = 1;
        if (f->line.open) line_close(&f->line);
    }
    if (++f->attempt > MOST_ATTEMPTS) { fail(f); return; }
    want_everything(f);
    if (f->accepts_ordinal) send_opener(f, now);
    else send_hello(f, now);
}

/* Whether it was made: not if more would be under way than this client can take. */
static int claim(flow *f, const settled *s, double now) {
    line *l = &f->line;
    uint32_t low = frontier(l, l->accounted), high = frontier(l, s->stop);
    uint32_t start = l->accounted;
    layout y = lay_out(l, low, high, l->size, OVERHEAD + padding_of(s->continuation));
    range want = {f->next_new, f->next_new};
    unsigned room;
    while (next_room(&y, &room)) want.stop += room;
    if (want.stop > f->received + RECEIVE_BUFFER && l->prefix < l->granted) return 0;
    if (want.stop - want.start >= OPEN_LENGTH || !line_reserve(l, high)) return 0;
    if (f->end != UNKNOWN_END && want.stop > f->end) {
        want.stop = f->end;
        l->ended = high; /* less than the grant is asked for: the answer will be short */
    }
    l->accounted = s->stop;
    l->granted = high;
    f->next_new = want.stop;
    shared.claims++;
    send_request(f, (terms){0, 0, 0, s->proof, 0, start}, s->continuation, s->length, &want, 1, 0);
    f->probe_at = now + silence(f);
    return 1;
}

/* Claim settled bursts, oldest first; small ones go together. */
static void make_claims(flow *f, double now) {
    line *l = &f->line;
    unsigned i = 0;
    while (i < l->waiting_count && l->ended == UINT32_MAX && f->next_new < f->end) {
        uint32_t enough = worth_claiming(window(l, l->waiting[i].stop));
        unsigned last = i;
        while (last + 1 < l->waiting_count && l->waiting[last].stop - l->accounted < enough &&
               l->waiting[last].stop - l->accounted < LONGEST_REACH)
            last++;
        int more_to_come = l->prefix < l->granted;
        if (l->waiting[last].stop - l->accounted < enough && more_to_come) break;
        if (!claim(f, &l->waiting[last], now)) break;
        while (i <= last) free(l->waiting[i++].continuation);
    }
    l->waiting_count -= i;
    memmove(l->waiting, l->waiting + i, l->waiting_count * sizeof(settled));
}

/* ---- arrivals */

static void finish(flow *f) {
    if (f->wrong || !f->head_bytes || f->end - f->start != f->head_bytes + shared.body_bytes) {
        f->wrong = 1;
        fail(f);
        return;
    }
    f->active = f->attach = 0;
    f->request_start = request_wanted(f->best.bytes);
    f->start = f->end;
    f->edition = 0;
    f->probe_at = f->again_at = f->loss_at = 0;
    f->over = closes(f->best.bytes);
    if (f->line.open) line_close(&f->line);
    shared.done(f);
}

static void on_data(flow *f, const uint8_t *d, unsigned length, double now) {
    line *l = &f->line;
    if (length < DATA_HEADER || d[30] & PROBE) return;
    uint32_t ordinal = get32(d + 9), generation = get32(d + 13), burst = get32(d + 37);
    unsigned n = get16(d + 61), carried = n, payload_at = DATA_HEADER + n;
    if (n && d[30] & NOTED && payload_at + 2 <= length) {
        carried += 2u + get16(d + payload_at);
        payload_at = DATA_HEADER + carried;
    }
    uint32_t stop = burst + d[41], k = burst + d[44];
    if (payload_at > length || k >= stop) return;
    if (!l->open || ordinal != l->ordinal || generation != l->generation) {
        if (ordinal != f->accepts_ordinal || d[29] <= f->accepts_attempt) return;
        if (!line_begin(f, d)) return;
        f->accepts_attempt = d[29];
        f->opening = 0;
        f->again_at = 0;
    }
    if (stop > l->granted) return;
    uint64_t offset = get64(d + 53), end = offset + length - payload_at;
    uint32_t edition = get32(d + 33);
    if (edition != f->edition && f->edition) { shared.foreign++; return; }
    f->edition = edition;
    if (offset == f->start && end > offset && !f->head_bytes) look_at_head(f, d + payload_at, length - payload_at);
    if (!insert(f, offset, end)) return;
    shared.bytes += length - payload_at;
    if (get16(d + 42) && burst + get16(d + 42) < l->ended) l->ended = burst + get16(d + 42);
    if (stop > l->promised) l->promised = stop;
    if (k > l->highest) l->highest = k;
    packet *p = &l->ring[k & (l->ring_size - 1)];
    if (k >= l->prefix && !p->arrived) {
        p->arrived = 1;
        p->nonce = get64(d + 45);
    }
    if (n) hold(f, burst, stop, d + DATA_HEADER, n, carried);
    settle(f);
    f->silences = f->refused = 0;
    f->probe_at = now + silence(f);
    int overtaken = l->highest >= l->prefix + REORDERING;
    f->loss_at = l->prefix < l->promised ? now + (overtaken ? HOLE_S : UNFINISHED_S) : 0;
}

static void on_ack(flow *f, const uint8_t *d, unsigned length, double now) {
    shared.acks++;
    f->refused = 0;
    if (length < 25) return;
    unsigned at = 25 + 4u * d[22], n = get16(d + 23);
    const uint8_t *c = d + at;
    if (n < OVERHEAD || n > LONGEST_CONTINUATION || at + n != length) return;
    if (!f->incarnation) f->incarnation = incarnation_of(c);
    if (incarnation_of(c) != f->incarnation) { shared.foreign++; return; }
    if (!f->opening) return;
    const held *h = &f->opener;
    int same = f->accepts_ordinal && generation_of(h->bytes) == generation_of(c) && stop_of(h->bytes) == stop_of(c);
    if (!same) {
        f->claim_start = stop_of(c);
        f->opener.proof = 0;
        f->lost_reported = 0;
    }
    memcpy(f->opener.bytes, c, n);
    f->opener.length = n;
    f->attempt = f->silences = 0;
    f->accepts_ordinal = (int64_t)ordinal_of(c) + 1;
    f->accepts_attempt = -1;
    want_everything(f);
    if (++f->repeats <= PATIENT_REPEATS) send_opener(f, now);
    else {
        f->probe_at = 0;
        f->again_at = now + silence(f);
    }
}

static void on_need(flow *f, double now) {
    shared.needs++;
    int again = f->attach;
    f->attach = 1;
    if (!f->opening) retry(f, now);
    else if (!again && f->accepts_ordinal) send_opener(f, now);
}

static void on_wait(flow *f, const uint8_t *d, unsigned length, double now) {
    shared.waits++;
    f->refused = 0;
    if (length != 23) return;
    unsigned ms = get16(d + 21);
    const uint8_t *c = f->opener.bytes;
    if (!f->opening) { /* a claim: nothing is on its way, so the silence that follows repeats it */
        f->probe_at = now + SILENCE_S;
        return;
    }
    if (!f->accepts_ordinal || get32(d + 9) != ordinal_of(c) || get32(d + 13) != (uint32_t)generation_of(c)) return;
    f->probe_at = 0;
    f->silences = 0;
    f->again_at = now + (ms < 5 ? 5 : ms) / 1000.0;
}

static void on_refused(flow *f, const uint8_t *d, unsigned length, double now) {
    if (length != 20 || d[9] >= CODES) return;
    unsigned code = d[9], after = get16(d + 10);
    shared.refusals[code]++;
    if (code == TOO_SOON) {
        if (after < 5) after = 5;
    } else if (code > EXPIRED && code < GONE) {
        return; /* the timer goes on */
    } else {
        unsigned n = ++f->refused, least = code == NOT_MINE ? 20 : 20 * n;
        if (n >= (code == NOT_MINE ? PATIENCE_NOT_MINE : PATIENCE)) {
            fail(f);
            return;
        }
        if (after < least) after = least;
        if (code == EXPIRED && !f->opening && f->best.length) { /* a restart: what was spent is not known */
            open_from(f, &f->best, now);
            return;
        }
    }
    if (f->opening) {
        f->probe_at = 0;
        f->again_at = now + after / 1000.0;
    } else {
        f->probe_at = now + after / 1000.0;
    }
}

void flow_receive(flow *f, const uint8_t *datagram, unsigned length, double now) {
    if (!f->active) return;
    switch (datagram[0]) {
    case DATA: on_data(f, datagram, length, now); break;
    case ACK: on_ack(f, datagram, length, now); break;
    case NEED: on_need(f, now); break;
    case WAIT: on_wait(f, datagram, length, now); break;
    case REFUSED: on_refused(f, datagram, length, now); break;
    default: shared.foreign++;
    }
}

void flow_advance(flow *f, double now) {
    line *l = &f->line;
    if (!f->active || !l->open || f->opening) return;
    if (f->received >= f->end && f->best.length && response_end(f->best.bytes) == f->end) {
        finish(f);
        return;
    }
    make_claims(f, now);
    uint32_t last = l->ended < l->granted ? l->ended : l->granted;
    if (l->prefix >= last && f->best.length && (l->ended != UINT32_MAX || f->next_new >= f->end)) {
        if (ordinal_of(f->best.bytes) == l->ordinal) open_from(f, &f->best, now);
    }
}

/* ---- the flow */

void flow_begin(flow *f, unsigned index, unsigned socket, uint32_t word) {
    packet *ring = f->line.ring;
    settled *waiting = f->line.waiting;
    uint32_t ring_size = f->line.ring_size;
    unsigned room = f->line.waiting_room;
    if (f->line.open) line_close(&f->line);
    memset(f, 0, sizeof *f);
    f->line.ring = ring;
    f->line.waiting = waiting;
    f->line.ring_size = ring_size;
    f->line.waiting_room = room;
    f->index = index;
    f->socket = socket;
    /* Servers steer by the middle word; the others say which flow it is. */
    put16(f->id, index >> 16);
    put32(f->id + 2, word);
    put16(f->id + 6, index & 65535);
}

void flow_ask(flow *f, const uint8_t *token, unsigned token_length, double now) {
    f->active = 1;
    f->asked_at = now;
    f->end = UNKNOWN_END;
    f->highest = f->received = f->start;
    f->head_bytes = f->silences = f->refused = f->repeats = 0;
    f->range_count = 0;
    f->wrong = 0;
    if (f->best.length) {
        open_from(f, &f->best, now);
        return;
    }
    f->opening = 1;
    f->accepts_ordinal = 0;
    f->accepts_attempt = -1;
    f->attempt = 0;
    memcpy(f->opener.bytes, token, token_length);
    f->opener.length = token_length;
    want_everything(f);
    send_hello(f, now);
}

double flow_deadline(const flow *f) {
    double due = 0;
    if (!f->active) return 0;
    if (f->probe_at) due = f->probe_at;
    if (f->again_at && (!due || f->again_at < due)) due = f->again_at;
    if (f->loss_at && (!due || f->loss_at < due)) due = f->loss_at;
    return due;
}

void flow_tick(flow *f, double now) {
    if (!f->active) return;
    if (f->loss_at && now >= f->loss_at) {
        f->loss_at = 0;
        if (f->line.open && !f->opening) open_after_loss(f, now);
    } else if (f->again_at && now >= f->again_at) {
        f->again_at = 0;
        if (f->accepts_ordinal) send_opener(f, now);
        else send_hello(f, now);
    } else if (f->probe_at && now >= f->probe_at) {
        shared.timeouts++;
        f->silences++;
        retry(f, now);
    }
}

void flow_drop(flow *f) {
    if (f->line.open) line_close(&f->line);
    free(f->line.ring);
    free(f->line.waiting);
    f->line.ring = NULL;
    f->line.waiting = NULL;
}
