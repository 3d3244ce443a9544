/* Integers and fields of datagrams: PROTOCOL.md, sections 9 and 11. */
#ifndef WIRE_H
#define WIRE_H

#include <stdint.h>
#include <string.h>

enum { HELLO = 0x11, REQUEST = 0x12, DATA = 0x18, ACK = 0x19, NEED = 0x1a, WAIT = 0x1b, REFUSED = 0x1c };
enum { OPENS = 1, HANDED_ON = 2, LOST = 4, PADDED = 8 };
enum { PROBE = 1, NOTED = 2 };
enum { EXPIRED = 3, TOO_SOON = 9, GONE = 10, NOT_MINE = 13, CODES = 16 };

#define BASE_DATAGRAM 1200
#define DATA_HEADER 63
#define HELLO_HEADER 17
#define REQUEST_HEADER 47
#define READABLE 110
#define OVERHEAD 142
#define LONGEST_CONTINUATION 940
#define MOST_WANTS 32
#define OPEN_LENGTH 0xffffffffu
#define UNKNOWN_END UINT64_MAX

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static inline uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) << 32 | get32(p + 4); }
static inline uint8_t *put8(uint8_t *p, unsigned v) { *p = (uint8_t)v; return p + 1; }
static inline uint8_t *put16(uint8_t *p, unsigned v) { return put8(put8(p, v >> 8), v & 255); }
static inline uint8_t *put32(uint8_t *p, uint32_t v) { return put16(put16(p, v >> 16), v & 65535); }
static inline uint8_t *put64(uint8_t *p, uint64_t v) { return put32(put32(p, (uint32_t)(v >> 32)), (uint32_t)v); }
static inline uint8_t *put(uint8_t *p, const void *from, size_t n) { memcpy(p, from, n); return p + n; }

/* What a client may read in a continuation. */
static inline int is_refreshed(const uint8_t *c) { return c[1] & 4; }
static inline int closes(const uint8_t *c) { return c[1] & 2; }
static inline uint64_t incarnation_of(const uint8_t *c) { return get64(c + 10); }
static inline uint32_t ordinal_of(const uint8_t *c) { return get32(c + 18); }
static inline uint64_t generation_of(const uint8_t *c) { return get64(c + 22); }
static inline unsigned size_of(const uint8_t *c) { return get16(c + 50); }
static inline unsigned padding_of(const uint8_t *c) { return get16(c + 52); }
static inline uint32_t burst_of(const uint8_t *c) { return get32(c + 55); }
static inline uint32_t stop_of(const uint8_t *c) { return get32(c + 55) + c[59]; }
static inline uint64_t request_wanted(const uint8_t *c) { return get64(c + 90); }
static inline uint64_t response_end(const uint8_t *c) { return c[1] & 1 ? get64(c + 98) : UNKNOWN_END; }

#endif
