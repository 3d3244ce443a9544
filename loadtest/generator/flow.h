/* One flow: what a client keeps of it, and what it does with a datagram. No sockets, no clock. */
#ifndef FLOW_H
#define FLOW_H

#include "wire.h"

#define MOST_RANGES 64

typedef struct { uint64_t start, stop; } range;

/* A continuation, and what can be proven of the numbers before the end of its burst. */
typedef struct {
    uint8_t bytes[LONGEST_CONTINUATION];
    unsigned length; /* 0: none */
    uint64_t proof;
    int proven;
} held;

/* A packet number that has arrived, or a burst's end whose continuation has. */
typedef struct {
    uint64_t nonce;
    uint8_t *continuation;
    uint16_t length;
    uint8_t arrived;
} packet;

/* A burst whose numbers have all arrived: it can be claimed. */
typedef struct { uint32_t stop; uint64_t proof; uint8_t *continuation; unsigned length; } settled;

/* The numbers of one generation, all of one epoch: a loss ends the line. */
typedef struct {
    uint32_t ordinal, generation, cwnd0, ssthresh;
    uint32_t prefix;    /* all below has arrived; `proof` is the xor of its nonces */
    uint32_t accounted; /* all below is claimed */
    uint32_t promised;  /* the highest end of a burst of which something arrived */
    uint32_t highest, granted, ended;
    unsigned size;
    uint64_t proof;
    packet *ring;
    uint32_t ring_size;
    settled *waiting;
    unsigned waiting_count, waiting_room;
    int open, foreseen;
} line;

typedef struct flow flow;
struct flow {
    uint8_t id[8];
    unsigned index, socket;
    int touched, active;
    int failed, over; /* its last request failed; it can make no more */
    uint64_t incarnation;

    /* the exchange */
    double asked_at;
    uint64_t request_start, start, received, highest, end, next_new;
    unsigned head_bytes;
    uint32_t edition;
    int attach, wrong;
    range ranges[MOST_RANGES]; /* bytes above `received` that are here, in order */
    unsigned range_count;

    /* the request that is to open a generation */
    int opening;
    held opener, best;
    uint32_t claim_start, lost;
    int lost_reported;
    unsigned attempt, repeats;
    range wants[MOST_WANTS];
    unsigned want_count;
    int64_t accepts_ordinal, accepts_attempt;

    line line;
    unsigned silences, refused;
    double probe_at, again_at, loss_at; /* 0: never */
};

/* What all flows share. */
typedef struct {
    const uint8_t *request;
    unsigned request_bytes;
    uint64_t body_bytes;
    unsigned size; /* largest datagram asked for */
    void (*send)(flow *f, const uint8_t *datagram, unsigned length);
    void (*done)(flow *f);
    long acks, needs, waits, refusals[CODES], foreign, bytes, openings, claims, losses, timeouts;
} protocol;

extern protocol shared;

/* Begin a flow in this place, which may have held another one before; an address token or none. */
void flow_begin(flow *f, unsigned index, unsigned socket, uint32_t word);
/* Send its next request: HELLO with `token` if it is new. */
void flow_ask(flow *f, const uint8_t *token, unsigned token_length, double now);
void flow_receive(flow *f, const uint8_t *datagram, unsigned length, double now);
/* After a batch of datagrams: claim what was earned. */
void flow_advance(flow *f, double now);
void flow_tick(flow *f, double now);
/* When `flow_tick` is due; 0: never. */
double flow_deadline(const flow *f);
void flow_drop(flow *f);

#endif
