/* @TITLE@
 *
 * Energy, second Piola-Kirchhoff stress and tangent of a material law at many points, without libraries. Strains and
 * stresses are Mandel vectors (11 22 33 23 13 12, shear times sqrt 2); tangents are the 21 entries of the upper triangle
 * of a Mandel matrix, row by row. Points are taken LANES at a time, each in a lane of its own: what a point gets does not
 * depend on the others, on their number or on their order.
 *
 * cc -O3 -march=native -fPIC -shared @NAME@.c -o @NAME@.so        (add -fopenmp for threads)
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(ONE_LANE)
#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 8
#elif defined(__AVX__)
#include <immintrin.h>
#define LANES 4
#else
#define LANES 2
#endif
typedef double v __attribute__((vector_size(8 * LANES)));
typedef int64_t vi __attribute__((vector_size(8 * LANES)));
#define NOINLINE __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline, unused))
#define LANE(x, l) ((x)[l])
#define ALL(c) ((c) - (v){0}) /* which leaves -0.0 alone, and costs nothing */
#define WHOLE(c) ((vi){0} + (int64_t)(c))
#define LESS(a, b) ((vi)((a) < (b)))
INLINE v real(vi x) { return (v)x; }
INLINE vi bits(v x) { return (vi)x; }
INLINE v choose(vi mask, v a, v b) { return (v)(((vi)a & mask) | ((vi)b & ~mask)); }
#else /* any other C99 compiler: one point at a time */
#define LANES 1
typedef double v;
typedef int64_t vi;
#define NOINLINE
#define INLINE static inline
#define LANE(x, l) (*(&(x) + (l)))
#define ALL(c) (c)
#define WHOLE(c) ((int64_t)(c))
#define LESS(a, b) (-(int64_t)((a) < (b)))
INLINE v real(vi x) { v y; memcpy(&y, &x, sizeof y); return y; }
INLINE vi bits(v x) { vi y; memcpy(&y, &x, sizeof y); return y; }
INLINE v choose(vi mask, v a, v b) { return mask ? a : b; }
#endif

#if defined(__x86_64__) && LANES > 1
#define PIN(x) __asm__("" : "+v"(x)) /* stays in its register: loads are what is short */
#else
#define PIN(x)
#endif

INLINE v root(v x)
{
#if LANES == 8
    return (v)_mm512_sqrt_pd((__m512d)x);
#elif LANES == 4
    return (v)_mm256_sqrt_pd((__m256d)x);
#else /* sqrt may set errno: a branch for each lane */
    for (int l = 0; l < LANES; l++)
        LANE(x, l) = sqrt(LANE(x, l));
    return x;
#endif
}

#define ROOT2 0x1.6a09e667f3bcdp+0
#define HALF_ROOT2 0x1.6a09e667f3bcdp-1

/* softplus ln(1 + e^a), its slope and its curvature of n activations, to about an ulp (of 1, where the value is below). With t =
 * e^-|a|, the slope is 1/(1+t) or t/(1+t), the curvature t/(1+t)^2, and ln(1 + t) = ln m + 2 artanh(u), u = (1+t-m)/(1+t+m) with m = 1
 * or, where t > sqrt 2 - 1, m = 2. The polynomials are Chebyshev interpolants: e^r of degree 11 on |r| <= ln 2 / 2 (error 2e-17),
 * 2 artanh(u)/u of degree 7 in u^2 up to (sqrt 2 - 1)^4 (error 3e-18); Estrin's order, for the latency. Two short loops, since a
 * processor looks ahead only so far and one vector alone waits for itself; whole numbers are compared, and added to exponents, where
 * floating point has no more units to spare. */
INLINE void softplus(int n, const v *a, v *value, v *slope, v *curvature)
{
    for (int i = 0; i < n; i++) { /* t */
        const v y = real(bits(a[i]) | WHOLE(INT64_MIN));               /* -|a| */
        const v shifted = y * 0x1.71547652b82fep+0 + 0x1.8p+52;        /* rounds to a whole number of ln 2 */
        const v r = y - (shifted - 0x1.8p+52) * 0x1.62e42fefa39efp-1, r2 = r * r;
        v p = 0x1.28b4101c77212p-22 + 0x1.af632a0f7e2cep-26 * r;
        p = p * r2 + (0x1.a01991a10d9aep-16 + 0x1.71ddf56d8deb5p-19 * r);
        p = p * r2 + (0x1.6c16c1880029fp-10 + 0x1.a01a01b1461c5p-13 * r);
        p = p * r2 + (0x1.555555554f0bap-5 + 0x1.111111110f21ep-7 * r);
        p = p * r2 + (0x1.0000000000011p-1 + 0x1.555555555555ap-3 * r);
        p = p * r2 + (1.0 + r);
        curvature[i] = real((bits(p) + (bits(shifted) << 52)) & ~LESS(y, ALL(-700.0)));
    }
    for (int i = 0; i < n; i++) {
        const v t = curvature[i], large = 1.0 / (1.0 + t), small = t * large; /* 1/(1+t), t/(1+t) */
        const vi negative = LESS(bits(a[i]), WHOLE(0)), half = LESS(WHOLE(0x3fda827999fcef32), bits(t)); /* t > sqrt 2 - 1 */
        const v one = real(bits(ALL(1.0)) & half); /* m - 1 */
        const v u = (t - one) / ((2.0 + t) + one), w = u * u, w2 = w * w;
        curvature[i] = small * large;
        slope[i] = choose(negative, small, large);
        v p = 0x1.3999bf614de60p-3 + 0x1.2f4d88c4fad06p-3 * w;
        p = p * w2 + (0x1.c71c50004ffddp-3 + 0x1.7466994f20a7cp-3 * w);
        p = p * w2 + (0x1.999999997aeaap-2 + 0x1.2492494513f76p-2 * w);
        p = p * w2 + (2.0 + 0x1.55555555555aep-1 * w);
        value[i] = (real(bits(a[i]) & ~negative) + one * 0x1.62e42fefa39efp-1) + u * p; /* max(a, 0) + ln m + 2 artanh(u) */
    }
}

/* Tensor indices of the Mandel components, the component of a pair of indices, and the entry of a pair of components. */
static const int ROW[6] = {0, 1, 2, 1, 0, 0}, COLUMN[6] = {0, 1, 2, 2, 2, 1};
static const int PLACE[3][3] = {{0, 5, 4}, {5, 1, 3}, {4, 3, 2}};
static const int ENTRY[6][6] = {{0, 1, 2, 3, 4, 5},    {1, 6, 7, 8, 9, 10},    {2, 7, 11, 12, 13, 14},
                                {3, 8, 12, 15, 16, 17}, {4, 9, 13, 16, 18, 19}, {5, 10, 14, 17, 19, 20}};
static const double WEIGHT[6] = {1.0, 1.0, 1.0, ROOT2, ROOT2, ROOT2};

INLINE void to_tensor(const v *vector, v *tensor)
{
    for (int k = 0; k < 6; k++)
        tensor[k] = k < 3 ? vector[k] : vector[k] * HALF_ROOT2;
}

/* a b a for symmetric a, b, each by its six tensor components; the result a Mandel vector. */
INLINE void around(const v *a, const v *b, v *vector)
{
    for (int k = 0; k < 6; k++) {
        v sum = ALL(0.0);
        for (int m = 0; m < 3; m++)
            for (int n = 0; n < 3; n++)
                sum += a[PLACE[ROW[k]][m]] * b[PLACE[m][n]] * a[PLACE[n][COLUMN[k]]];
        vector[k] = sum * WEIGHT[k];
    }
}

/* Entry of the Mandel matrix of X -> (a X b + b X a) / 2. */
INLINE v sandwich(const v *a, const v *b, int row, int column)
{
    const int i = ROW[row], j = COLUMN[row], k = ROW[column], l = COLUMN[column];
    return 0.25 * WEIGHT[row] * WEIGHT[column]
           * (a[PLACE[i][k]] * b[PLACE[j][l]] + a[PLACE[i][l]] * b[PLACE[j][k]] + b[PLACE[i][k]] * a[PLACE[j][l]]
              + b[PLACE[i][l]] * a[PLACE[j][k]]);
}

/* M C M^T in 21 entries, in place, for a 6x6 matrix M. */
static NOINLINE void congruence(const v *matrix, v *entries)
{
    v half[36];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            v sum = matrix[6 * i] * entries[ENTRY[0][j]];
            for (int k = 1; k < 6; k++)
                sum += matrix[6 * i + k] * entries[ENTRY[k][j]];
            half[6 * i + j] = sum;
        }
    for (int i = 0; i < 6; i++)
        for (int j = i; j < 6; j++) {
            v sum = half[6 * i] * matrix[6 * j];
            for (int k = 1; k < 6; k++)
                sum += half[6 * i + k] * matrix[6 * j + k];
            entries[ENTRY[i][j]] = sum;
        }
}

/* Q^T X Q (back = 0) or Q X Q^T of a Mandel vector. */
INLINE void turn_vector(const v *q, int back, const v *vector, v *turned)
{
    v tensor[6], half[9];
    to_tensor(vector, tensor);
    for (int i = 0; i < 3; i++)
        for (int n = 0; n < 3; n++) {
            v sum = ALL(0.0);
            for (int m = 0; m < 3; m++)
                sum += (back ? q[3 * i + m] : q[3 * m + i]) * tensor[PLACE[m][n]];
            half[3 * i + n] = sum;
        }
    for (int k = 0; k < 6; k++) {
        v sum = ALL(0.0);
        for (int n = 0; n < 3; n++)
            sum += half[3 * ROW[k] + n] * (back ? q[3 * COLUMN[k] + n] : q[3 * n + COLUMN[k]]);
        turned[k] = sum * WEIGHT[k];
    }
}

/* Mandel matrix of X -> Q X Q^T. */
static NOINLINE void turn_matrix(const v *q, v *matrix)
{
    for (int row = 0; row < 6; row++)
        for (int column = 0; column < 6; column++) {
            const int i = ROW[row], j = COLUMN[row], k = ROW[column], l = COLUMN[column];
            matrix[6 * row + column] = 0.5 * WEIGHT[row] * WEIGHT[column]
                                       * (q[3 * i + k] * q[3 * j + l] + q[3 * i + l] * q[3 * j + k]);
        }
}

#define UNUSED(x) ((void)(x))
@LAW@
/* Energy, stress and, unless c is NULL, tangent at LANES strains; Q may be NULL. Where the status is 2, zeros. */
static NOINLINE void law_block(const reference *rest, const v *given, const v *rotation, v *w, v *s, v *c, v *status)
{
    v strain[6], q[9], x[6], inverse[6];
    vi invalid = WHOLE(0);
    for (int k = 0; k < 6; k++)
        invalid |= ~LESS(given[k] * 0.0, ALL(1.0)); /* NaN and infinities are not less */
#if GREEN_LAGRANGE
    { /* Sylvester's criterion for 1 + 2E */
        const v a = 1.0 + 2.0 * given[0], b = 1.0 + 2.0 * given[1], g = 1.0 + 2.0 * given[2];
        const v d = ROOT2 * given[3], e = ROOT2 * given[4], f = ROOT2 * given[5];
        const v determinant = a * (b * g - d * d) - f * (f * g - d * e) + e * (f * d - b * e);
        invalid |= ~(LESS(ALL(0.0), a) & LESS(ALL(0.0), a * b - f * f) & LESS(ALL(0.0), determinant));
    }
#endif
    for (int k = 0; k < 6; k++)
        strain[k] = choose(invalid, ALL(0.0), given[k]);
    int turned = TURNED;
    if (rotation) {
        turned = 1;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                q[3 * i + j] = rotation[3 * i] * FRAME[j] + rotation[3 * i + 1] * FRAME[3 + j] + rotation[3 * i + 2] * FRAME[6 + j];
    } else if (TURNED)
        for (int k = 0; k < 9; k++)
            q[k] = ALL(FRAME[k]);
    if (turned) {
        v crystal[6];
        turn_vector(q, 0, strain, crystal);
        memcpy(strain, crystal, sizeof strain);
    }
    *status = choose(invalid, ALL(2.0), choose(outside(strain), ALL(1.0), ALL(0.0)));
#if MEASURED
    v tensor[6];
    {
        const v a = 1.0 + 2.0 * strain[0], b = 1.0 + 2.0 * strain[1], g = 1.0 + 2.0 * strain[2];
        const v d = ROOT2 * strain[3], e = ROOT2 * strain[4], f = ROOT2 * strain[5];
        const v m0 = b * g - d * d, m4 = d * f - b * e, m5 = d * e - g * f;
        const v over = 1.0 / (a * m0 + f * m5 + e * m4);
        inverse[0] = m0 * over;
        inverse[1] = (a * g - e * e) * over;
        inverse[2] = (a * b - f * f) * over;
        inverse[3] = (e * f - a * d) * over;
        inverse[4] = m4 * over;
        inverse[5] = m5 * over;
    }
    to_tensor(strain, tensor);
    for (int k = 0; k < 6; k++) { /* (1 - C^-1)/2 = C^-1 E, without cancellation */
        v sum = ALL(0.0);
        for (int m = 0; m < 3; m++)
            sum += inverse[PLACE[ROW[k]][m]] * tensor[PLACE[m][COLUMN[k]]];
        x[k] = GREEN * strain[k] + MIRRORED * WEIGHT[k] * sum;
    }
#else
    UNUSED(inverse);
    memcpy(x, strain, sizeof x);
#endif
    standard(rest, x, w, s, c);
#if MEASURED
    v pulled[6];
    to_tensor(s, tensor);
    around(inverse, tensor, pulled);
    if (c) {
        v jacobian[36], inner[6];
        to_tensor(pulled, inner);
        for (int i = 0; i < 6; i++)
            for (int j = i; j < 6; j++)
                jacobian[6 * i + j] = jacobian[6 * j + i] = (i == j ? GREEN : 0.0) + MIRRORED * sandwich(inverse, inverse, i, j);
        congruence(jacobian, c);
        for (int i = 0; i < 6; i++)
            for (int j = i; j < 6; j++)
                c[ENTRY[i][j]] -= 4.0 * MIRRORED * sandwich(inner, inverse, i, j);
    }
    for (int k = 0; k < 6; k++)
        s[k] = GREEN * s[k] + MIRRORED * pulled[k];
#endif
    if (turned) {
        v stress[6];
        turn_vector(q, 1, s, stress);
        memcpy(s, stress, sizeof stress);
        if (c) {
            v matrix[36];
            turn_matrix(q, matrix);
            congruence(matrix, c);
        }
    }
}

/* See the header. */
void @NAME@_response(int64_t n, const double *strain, const double *rotation, int64_t rotation_stride, double *energy,
                     double *stress, double *tangent, float *tangent_single, int8_t *status)
{
    reference rest;
    at_reference(&rest);
    const int64_t blocks = (n + LANES - 1) / LANES;
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (int64_t number = 0; number < blocks; number++) {
        const int64_t start = LANES * number;
        const int count = n - start < LANES ? (int)(n - start) : LANES;
        const int with_tangent = tangent || tangent_single;
        v e[6], q[9], w, s[6], c[21], flag;
        for (int l = 0; l < LANES; l++) {
            const double *from = strain + 6 * (start + (l < count ? l : 0));
            for (int k = 0; k < 6; k++)
                LANE(e[k], l) = from[k];
            if (rotation) {
                const double *turn = rotation + rotation_stride * (start + (l < count ? l : 0));
                for (int k = 0; k < 9; k++)
                    LANE(q[k], l) = turn[k];
            }
        }
        law_block(&rest, e, rotation ? q : NULL, &w, s, with_tangent ? c : NULL, &flag);
        const vi bad = LESS(ALL(1.5), flag);
        int any = 0;
        for (int l = 0; l < LANES; l++)
            any |= LANE(bad, l) != 0;
        if (any) {
            w = choose(bad, ALL(NAN), w);
            for (int k = 0; k < 6; k++)
                s[k] = choose(bad, ALL(NAN), s[k]);
            for (int k = 0; with_tangent && k < 21; k++)
                c[k] = choose(bad, ALL(NAN), c[k]);
        }
        for (int l = 0; l < count; l++) {
            const int64_t point = start + l;
            status[point] = (int8_t)LANE(flag, l);
            energy[point] = LANE(w, l);
            for (int k = 0; k < 6; k++)
                stress[6 * point + k] = LANE(s[k], l);
        }
        if (tangent)
            for (int l = 0; l < count; l++)
                for (int k = 0; k < 21; k++)
                    tangent[21 * (start + l) + k] = LANE(c[k], l);
        if (tangent_single)
            for (int l = 0; l < count; l++)
                for (int k = 0; k < 21; k++)
                    tangent_single[21 * (start + l) + k] = (float)LANE(c[k], l);
    }
}
