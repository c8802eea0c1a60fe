/* Element vectors and matrices of the standard weak form. With LAW_INSIDE the law is evaluated here, and this follows its own
 * source; otherwise stress and tangent are read, and this follows what all laws share. With DERIVATIVE what is read is the
 * derivative A of the first Piola-Kirchhoff stress with respect to F, and only matrices are made.
 *
 * Quadrature points stand in the lanes. NODES and CORNERS count the nodes of displacement and geometry; BASIS and GEOMETRY
 * hold the derivatives of their functions (points, nodes, 3), WEIGHTS the weights of the rule. */
#define BLOCKS ((POINTS + LANES - 1) / LANES)
#define TANGENT(p, q) (SYMMETRIC ? ENTRY[p][q] : 6 * (p) + (q))
#define ENTRIES (DERIVATIVE ? 81 : SYMMETRIC ? 21 : 36)

/* Where a kernel reads: cells by their nodes (cells, NODES), corners (cells, CORNERS) and, where fields are given at points,
 * places in them (cells, POINTS); coordinates x of corners and displacements u of nodes, three each. */
typedef struct {
    int64_t cells;
    const int32_t *nodes, *corners, *points;
    const double *x, *u;
    const double *stress, *tangent;                 /* unless LAW_INSIDE; */
    int64_t base;                                   /* with DERIVATIVE no stress, and A cell by cell from this cell on */
    const double *rotation; int64_t rotation_stride; /* NULL, or Q crystal -> sample: one (stride 0), or one for each of `points` (9) */
    int64_t outside, invalid;                       /* counted: points outside the trained range, points without a possible strain */
} region;

static v basis[BLOCKS][NODES][3], geometry[BLOCKS][CORNERS][3], weights[BLOCKS];
#if LAW_INSIDE
static reference element_rest;
#endif

/* Once, before any element: constants into lanes. */
void element_prepare(void)
{
#if LAW_INSIDE
    at_reference(&element_rest);
#endif
    for (int b = 0; b < BLOCKS; b++)
        for (int l = 0; l < LANES; l++) {
            const int real_point = b * LANES + l < POINTS, p = real_point ? b * LANES + l : POINTS - 1;
            LANE(weights[b], l) = real_point ? WEIGHTS[p] : 0.0;
            for (int k = 0; k < 3; k++) {
                for (int a = 0; a < NODES; a++)
                    LANE(basis[b][a][k], l) = BASIS[(p * NODES + a) * 3 + k];
                for (int a = 0; a < CORNERS; a++)
                    LANE(geometry[b][a][k], l) = GEOMETRY[(p * CORNERS + a) * 3 + k];
            }
        }
}

/* Gradients G of the basis, F, S and the tangent (unless NULL) at one block of points; all but F times the volume that each
 * point stands for where that is what is integrated: S and c. NaN where the law has no answer. */
static NOINLINE void element_points(region *where, int64_t cell, int b, const double *x, const double *u, v (*g)[3], v *f, v *s, v *c)
{
    v jacobian[9], inverse[9], h[9];
    for (int k = 0; k < 9; k++)
        jacobian[k] = h[k] = ALL(0.0);
    for (int a = 0; a < CORNERS; a++)
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 3; k++)
                jacobian[3 * i + k] += x[3 * a + i] * geometry[b][a][k];
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            const int i1 = (i + 1) % 3, i2 = (i + 2) % 3, k1 = (k + 1) % 3, k2 = (k + 2) % 3;
            inverse[3 * k + i] = jacobian[3 * i1 + k1] * jacobian[3 * i2 + k2] - jacobian[3 * i1 + k2] * jacobian[3 * i2 + k1];
        }
    const v volume = jacobian[0] * inverse[0] + jacobian[1] * inverse[3] + jacobian[2] * inverse[6];
    const v over = 1.0 / volume;
    const v scale = weights[b] * choose(LESS(volume, ALL(0.0)), -volume, volume);
    for (int k = 0; k < 9; k++)
        inverse[k] *= over;
    for (int a = 0; a < NODES; a++)
        for (int j = 0; j < 3; j++) {
            g[a][j] = basis[b][a][0] * inverse[j] + basis[b][a][1] * inverse[3 + j] + basis[b][a][2] * inverse[6 + j];
            for (int i = 0; i < 3; i++)
                h[3 * i + j] += u[3 * a + i] * g[a][j];
        }
    for (int k = 0; k < 9; k++)
        f[k] = (GREEN_LAGRANGE ? h[k] : ALL(0.0)) + (k % 4 == 0 ? 1.0 : 0.0);
    int64_t place[LANES];
    for (int l = 0; l < LANES; l++) {
        const int p = b * LANES + l < POINTS ? b * LANES + l : POINTS - 1;
        place[l] = DERIVATIVE ? (cell - where->base) * POINTS + p : where->points ? where->points[cell * POINTS + p] : 0;
    }
#if LAW_INSIDE
    v strain[6], q[9], energy, flag;
    for (int k = 0; k < 6; k++) { /* sym H + (H^T H)/2 keeps full relative accuracy at small strain */
        const int i = ROW[k], j = COLUMN[k];
        v e = 0.5 * (h[3 * i + j] + h[3 * j + i]);
#if GREEN_LAGRANGE
        e += 0.5 * (h[i] * h[j] + h[3 + i] * h[3 + j] + h[6 + i] * h[6 + j]);
#endif
        strain[k] = WEIGHT[k] * e;
    }
    for (int k = 0; where->rotation && k < 9; k++)
        for (int l = 0; l < LANES; l++)
            LANE(q[k], l) = where->rotation[where->rotation_stride * place[l] + k];
    law_block(&element_rest, strain, where->rotation ? q : NULL, &energy, s, c, &flag);
#if GREEN_LAGRANGE
    const v determinant = f[0] * (f[4] * f[8] - f[5] * f[7]) - f[1] * (f[3] * f[8] - f[5] * f[6]) + f[2] * (f[3] * f[7] - f[4] * f[6]);
    flag = choose(LESS(ALL(0.0), determinant), flag, ALL(2.0)); /* E cannot tell a mirrored cell from a sound one */
#endif
    for (int l = 0; l < LANES; l++)
        if (LANE(flag, l) != 0.0 && LANE(weights[b], l) != 0.0) {
            where->outside += LANE(flag, l) == 1.0;
            where->invalid += LANE(flag, l) == 2.0;
        }
    const v factor = choose(LESS(flag, ALL(1.5)), scale, ALL(NAN));
#else
    const v factor = scale;
    for (int l = 0; l < LANES; l++) {
        for (int k = 0; k < 6; k++)
            LANE(s[k], l) = DERIVATIVE ? 0.0 : where->stress[6 * place[l] + k];
        for (int k = 0; c && k < ENTRIES; k++)
            LANE(c[k], l) = where->tangent[ENTRIES * place[l] + k];
    }
#endif
    for (int k = 0; k < 6; k++)
        s[k] *= factor;
    for (int k = 0; c && k < ENTRIES; k++)
        c[k] *= factor;
}

INLINE double lanes(v x)
{
    double sum = LANE(x, 0);
    for (int l = 1; l < LANES; l++)
        sum += LANE(x, l);
    return sum;
}

/* r_ai = P_iJ G_aJ, P = F S, of one element with corners x and displacements u. */
static void vector_of(region *where, int64_t cell, const double *x, const double *u, double *vector)
{
    v g[NODES][3], f[9], s[6], r[NODES][3];
    for (int a = 0; a < NODES; a++)
        r[a][0] = r[a][1] = r[a][2] = ALL(0.0);
    for (int b = 0; b < BLOCKS; b++) {
        v p[9], t[6];
        element_points(where, cell, b, x, u, g, f, s, NULL);
        to_tensor(s, t);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                p[3 * i + j] = f[3 * i] * t[PLACE[0][j]] + f[3 * i + 1] * t[PLACE[1][j]] + f[3 * i + 2] * t[PLACE[2][j]];
        for (int a = 0; a < NODES; a++)
            for (int i = 0; i < 3; i++)
                r[a][i] += p[3 * i] * g[a][0] + p[3 * i + 1] * g[a][1] + p[3 * i + 2] * g[a][2];
    }
    for (int a = 0; a < NODES; a++)
        for (int i = 0; i < 3; i++)
            vector[3 * a + i] = lanes(r[a][i]);
}

/* A = F C F + 1 S, the derivative of P with respect to F, 9 x 9. */
INLINE void derivative(const v *f, const v *s, v *c, v (*full)[9])
{
#if DERIVATIVE
    UNUSED(f);
    UNUSED(s);
    memcpy(full, c, 81 * sizeof(v));
#else
    v half[9][6], t[6];
    to_tensor(s, t);
    for (int p = 0; p < 6; p++)
        for (int q = SYMMETRIC ? p : 0; q < 6; q++)
            c[TANGENT(p, q)] *= 1.0 / (WEIGHT[p] * WEIGHT[q]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int q = 0; q < 6; q++)
                half[3 * i + j][q] = f[3 * i] * c[TANGENT(PLACE[0][j], q)] + f[3 * i + 1] * c[TANGENT(PLACE[1][j], q)]
                                     + f[3 * i + 2] * c[TANGENT(PLACE[2][j], q)];
    for (int row = 0; row < 9; row++)
        for (int k = 0; k < 3; k++)
            for (int l = 0; l < 3; l++)
                full[row][3 * k + l] = half[row][PLACE[0][l]] * f[3 * k] + half[row][PLACE[1][l]] * f[3 * k + 1]
                                       + half[row][PLACE[2][l]] * f[3 * k + 2];
#if GREEN_LAGRANGE
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int l = 0; l < 3; l++)
                full[3 * i + j][3 * i + l] += t[PLACE[j][l]];
#else
    UNUSED(t);
#endif
#endif
}

/* K_ai,bk = G_aJ A_iJkL G_bL of one element; where C is symmetric, so is it, and only its blocks a <= b are summed. */
static void matrix_of(region *where, int64_t cell, const double *x, const double *u, double *matrix)
{
    v g[BLOCKS][NODES][3], f[BLOCKS][9], s[BLOCKS][6], c[BLOCKS][ENTRIES], full[BLOCKS][9][9];
    for (int b = 0; b < BLOCKS; b++) /* the law first for all points: its weights fill the cache */
        element_points(where, cell, b, x, u, g[b], f[b], s[b], c[b]);
    for (int b = 0; b < BLOCKS; b++)
        derivative(f[b], s[b], c[b], full[b]);
    for (int n = 0; n < NODES; n++) {
        v moved[BLOCKS][9][3]; /* A G_n */
        for (int b = 0; b < BLOCKS; b++)
            for (int row = 0; row < 9; row++)
                for (int k = 0; k < 3; k++)
                    moved[b][row][k] = full[b][row][3 * k] * g[b][n][0] + full[b][row][3 * k + 1] * g[b][n][1]
                                       + full[b][row][3 * k + 2] * g[b][n][2];
        for (int a = 0; a < (SYMMETRIC ? n + 1 : NODES); a++) {
            v sum[9];
            for (int k = 0; k < 9; k++)
                sum[k] = ALL(0.0);
            for (int b = 0; b < BLOCKS; b++)
                for (int i = 0; i < 3; i++)
                    for (int k = 0; k < 3; k++)
                        sum[3 * i + k] += g[b][a][0] * moved[b][3 * i][k] + g[b][a][1] * moved[b][3 * i + 1][k]
                                          + g[b][a][2] * moved[b][3 * i + 2][k];
            for (int i = 0; i < 3; i++)
                for (int k = 0; k < 3; k++) {
                    const double value = lanes(sum[3 * i + k]);
                    matrix[(3 * a + i) * 3 * NODES + 3 * n + k] = value;
                    if (SYMMETRIC)
                        matrix[(3 * n + k) * 3 * NODES + 3 * a + i] = value;
                }
        }
    }
}

INLINE void gather(const region *where, int64_t cell, double *x, double *u)
{
    for (int a = 0; a < CORNERS; a++)
        memcpy(x + 3 * a, where->x + 3 * (int64_t)where->corners[cell * CORNERS + a], 3 * sizeof(double));
    for (int a = 0; a < NODES; a++)
        memcpy(u + 3 * a, where->u + 3 * (int64_t)where->nodes[cell * NODES + a], 3 * sizeof(double));
}

/* Add the vector of all cells. */
void assemble_vector(region *where, double *vector)
{
    for (int64_t cell = 0; cell < where->cells; cell++) {
        double x[3 * CORNERS], u[3 * NODES], own[3 * NODES];
        gather(where, cell, x, u);
        vector_of(where, cell, x, u, own);
        for (int a = 0; a < NODES; a++)
            for (int i = 0; i < 3; i++)
                vector[3 * (int64_t)where->nodes[cell * NODES + a] + i] += own[3 * a + i];
    }
}

/* Add the matrices of cells first ... last - 1 to the values of compressed rows: those of row r begin at rows[r], and in them
 * those of node b for a row of node a at places[cell, a, b]. Rows and columns that are held stay as they are. */
void assemble_matrix(region *where, int64_t first, int64_t last, const int8_t *held, const int64_t *rows, const int32_t *places, double *values)
{
    for (int64_t cell = first; cell < last; cell++) {
        double x[3 * CORNERS], u[3 * NODES], own[9 * NODES * NODES];
        const int32_t *nodes = where->nodes + cell * NODES;
        gather(where, cell, x, u);
        matrix_of(where, cell, x, u, own);
        for (int a = 0; a < NODES; a++)
            for (int i = 0; i < 3; i++) {
                const int64_t row = 3 * (int64_t)nodes[a] + i;
                if (held[row])
                    continue;
                double *start = values + rows[row];
                const double *from = own + (3 * a + i) * 3 * NODES;
                for (int b = 0; b < NODES; b++) {
                    double *to = start + places[(cell * NODES + a) * NODES + b];
                    const int8_t *fixed = held + 3 * (int64_t)nodes[b];
                    for (int k = 0; k < 3; k++)
                        if (!fixed[k])
                            to[k] += from[3 * b + k];
                }
            }
    }
}

/* The same through PETSc's MatSetValuesBlockedLocal, for cells with nodes of other ranks. Returns PETSc's error code. */
typedef int inserter(void *matrix, INDEX rows, const INDEX *row, INDEX columns, const INDEX *column, const double *values, int mode);
int insert_matrix(region *where, int64_t first, int64_t last, const int8_t *held, inserter *insert, void *matrix)
{
    for (int64_t cell = first; cell < last; cell++) {
        double x[3 * CORNERS], u[3 * NODES], own[9 * NODES * NODES];
        int8_t fixed[3 * NODES];
        INDEX nodes[NODES];
        gather(where, cell, x, u);
        matrix_of(where, cell, x, u, own);
        for (int a = 0; a < NODES; a++) {
            nodes[a] = where->nodes[cell * NODES + a];
            memcpy(fixed + 3 * a, held + 3 * (int64_t)nodes[a], 3);
        }
        for (int row = 0; row < 3 * NODES; row++)
            for (int column = 0; column < 3 * NODES; column++)
                if (fixed[row] || fixed[column])
                    own[row * 3 * NODES + column] = 0.0;
        const int code = insert(matrix, NODES, nodes, NODES, nodes, own, 2 /* ADD_VALUES */);
        if (code)
            return code;
    }
    return 0;
}
