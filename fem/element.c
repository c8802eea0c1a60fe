/* Element vectors and matrices of the standard weak form, the law evaluated inside: appended to the law's own source.
 *
 * Quadrature points stand in the lanes. NODES and CORNERS count the nodes of displacement and geometry; BASIS and GEOMETRY
 * hold the derivatives of their functions (points, nodes, 3), WEIGHTS the weights of the rule; ROTATION is Q, if ORIENTED. */
#define BLOCKS ((POINTS + LANES - 1) / LANES)
static v basis[BLOCKS][NODES][3], geometry[BLOCKS][CORNERS][3], weights[BLOCKS], orientation[9];
static reference element_rest;
/* points evaluated outside the trained range, and points without a possible strain, since they were last set to zero */
int64_t element_outside, element_invalid;

/* Once, before any element: constants into lanes. */
void element_prepare(void)
{
    at_reference(&element_rest);
    for (int k = 0; k < 9; k++)
        orientation[k] = ALL(ROTATION[k]);
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
static NOINLINE void element_points(int b, const double *x, const double *u, v (*g)[3], v *f, v *s, v *c)
{
    v jacobian[9], inverse[9], h[9], strain[6], energy, flag;
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
    for (int k = 0; k < 6; k++) { /* sym H + (H^T H)/2 keeps full relative accuracy at small strain */
        const int i = ROW[k], j = COLUMN[k];
        v e = 0.5 * (h[3 * i + j] + h[3 * j + i]);
#if GREEN_LAGRANGE
        e += 0.5 * (h[i] * h[j] + h[3 + i] * h[3 + j] + h[6 + i] * h[6 + j]);
#endif
        strain[k] = WEIGHT[k] * e;
    }
    for (int k = 0; k < 9; k++)
        f[k] = (GREEN_LAGRANGE ? h[k] : ALL(0.0)) + (k % 4 == 0 ? 1.0 : 0.0);
    law_block(&element_rest, strain, ORIENTED ? orientation : NULL, &energy, s, c, &flag);
#if GREEN_LAGRANGE
    const v determinant = f[0] * (f[4] * f[8] - f[5] * f[7]) - f[1] * (f[3] * f[8] - f[5] * f[6]) + f[2] * (f[3] * f[7] - f[4] * f[6]);
    flag = choose(LESS(ALL(0.0), determinant), flag, ALL(2.0)); /* E cannot tell a mirrored cell from a sound one */
#endif
    for (int l = 0; l < LANES; l++)
        if (LANE(flag, l) != 0.0 && LANE(weights[b], l) != 0.0) {
            element_outside += LANE(flag, l) == 1.0;
            element_invalid += LANE(flag, l) == 2.0;
        }
    const v factor = choose(LESS(flag, ALL(1.5)), scale, ALL(NAN));
    for (int k = 0; k < 6; k++)
        s[k] *= factor;
    for (int k = 0; c && k < 21; k++)
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
static void vector_of(const double *x, const double *u, double *vector)
{
    v g[NODES][3], f[9], s[6], r[NODES][3];
    for (int a = 0; a < NODES; a++)
        r[a][0] = r[a][1] = r[a][2] = ALL(0.0);
    for (int b = 0; b < BLOCKS; b++) {
        v p[9], t[6];
        element_points(b, x, u, g, f, s, NULL);
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
    v half[9][6], t[6];
    to_tensor(s, t);
    for (int p = 0; p < 6; p++)
        for (int q = p; q < 6; q++)
            c[ENTRY[p][q]] *= 1.0 / (WEIGHT[p] * WEIGHT[q]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int q = 0; q < 6; q++)
                half[3 * i + j][q] = f[3 * i] * c[ENTRY[PLACE[0][j]][q]] + f[3 * i + 1] * c[ENTRY[PLACE[1][j]][q]]
                                     + f[3 * i + 2] * c[ENTRY[PLACE[2][j]][q]];
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
}

/* K_ai,bk = G_aJ A_iJkL G_bL of one element; it is symmetric, and only its blocks a <= b are summed. */
static void matrix_of(const double *x, const double *u, double *matrix)
{
    v g[BLOCKS][NODES][3], f[BLOCKS][9], s[BLOCKS][6], c[BLOCKS][21], full[BLOCKS][9][9];
    for (int b = 0; b < BLOCKS; b++) /* the law first for all points: its weights fill the cache */
        element_points(b, x, u, g[b], f[b], s[b], c[b]);
    for (int b = 0; b < BLOCKS; b++)
        derivative(f[b], s[b], c[b], full[b]);
    for (int n = 0; n < NODES; n++) {
        v moved[BLOCKS][9][3]; /* A G_n */
        for (int b = 0; b < BLOCKS; b++)
            for (int row = 0; row < 9; row++)
                for (int k = 0; k < 3; k++)
                    moved[b][row][k] = full[b][row][3 * k] * g[b][n][0] + full[b][row][3 * k + 1] * g[b][n][1]
                                       + full[b][row][3 * k + 2] * g[b][n][2];
        for (int a = 0; a <= n; a++) {
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
                    matrix[(3 * n + k) * 3 * NODES + 3 * a + i] = value;
                }
        }
    }
}

/* The call that DOLFINx makes of its own kernels: add to the element's vector or matrix. */
void element_vector(double *vector, const double *u, const double *none, const double *x, const int *entity, const uint8_t *turns)
{
    double own[3 * NODES];
    UNUSED(none), UNUSED(entity), UNUSED(turns);
    vector_of(x, u, own);
    for (int k = 0; k < 3 * NODES; k++)
        vector[k] += own[k];
}

void element_matrix(double *matrix, const double *u, const double *none, const double *x, const int *entity, const uint8_t *turns)
{
    double own[9 * NODES * NODES];
    UNUSED(none), UNUSED(entity), UNUSED(turns);
    matrix_of(x, u, own);
    for (int k = 0; k < 9 * NODES * NODES; k++)
        matrix[k] += own[k];
}

INLINE void gather(int64_t cell, const int32_t *dofs, const int32_t *corners, const double *x, const double *u, double *own_x, double *own_u)
{
    for (int a = 0; a < CORNERS; a++)
        memcpy(own_x + 3 * a, x + 3 * (int64_t)corners[cell * CORNERS + a], 3 * sizeof(double));
    for (int a = 0; a < NODES; a++)
        memcpy(own_u + 3 * a, u + 3 * (int64_t)dofs[cell * NODES + a], 3 * sizeof(double));
}

/* The whole mesh: dofs (cells, NODES) and corners (cells, CORNERS) number nodes of u and points x, three values each. */
void assemble_vector(int64_t cells, const int32_t *dofs, const int32_t *corners, const double *x, const double *u, double *vector)
{
    for (int64_t cell = 0; cell < cells; cell++) {
        double own_x[3 * CORNERS], own_u[3 * NODES], own[3 * NODES];
        gather(cell, dofs, corners, x, u, own_x, own_u);
        vector_of(own_x, own_u, own);
        for (int a = 0; a < NODES; a++)
            for (int i = 0; i < 3; i++)
                vector[3 * (int64_t)dofs[cell * NODES + a] + i] += own[3 * a + i];
    }
}

/* values of compressed rows: those of row r begin at rows[r], and in them those of node b for a row of node a at
 * places[cell, a, b]. Rows and columns that are held (NULL: none) stay as they are. */
void assemble_matrix(int64_t cells, const int32_t *dofs, const int32_t *corners, const double *x, const double *u, const int8_t *held,
                     const int64_t *rows, const int32_t *places, double *values)
{
    for (int64_t cell = 0; cell < cells; cell++) {
        double own_x[3 * CORNERS], own_u[3 * NODES], own[9 * NODES * NODES];
        gather(cell, dofs, corners, x, u, own_x, own_u);
        matrix_of(own_x, own_u, own);
        for (int a = 0; a < NODES; a++)
            for (int i = 0; i < 3; i++) {
                const int64_t row = 3 * (int64_t)dofs[cell * NODES + a] + i;
                if (held && held[row])
                    continue;
                double *start = values + rows[row];
                const double *from = own + (3 * a + i) * 3 * NODES;
                for (int b = 0; b < NODES; b++) {
                    double *to = start + places[(cell * NODES + a) * NODES + b];
                    const int8_t *fixed = held ? held + 3 * (int64_t)dofs[cell * NODES + b] : NULL;
                    for (int k = 0; k < 3; k++)
                        if (!fixed || !fixed[k])
                            to[k] += from[3 * b + k];
                }
            }
    }
}
