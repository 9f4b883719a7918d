# Frozen reference fits of lme4 and nlme.  Run in this directory: Rscript lme4.R > lme4.json
#
# Every lme4 fit is optimised by BOBYQA and then polished by Newton steps on Richardson-extrapolated derivatives
# of its own deviance function: a derivative-free optimiser leaves about sqrt(machine epsilon) in theta.

suppressPackageStartupMessages({
  library(lme4)
  library(nlme, exclude = c("lmList", "VarCorr", "ranef", "fixef"))
  library(jsonlite)
})

DIGITS <- 13
BOUNDARY <- 1e-6 # a diagonal of the relative factor below this is on its bound: set to zero, kept out of the polish
LARGE_P <- 10 # above this many fixed effects their correlation matrix, which follows from vcov, is left out

# ---- data -----------------------------------------------------------------------------------------------------

with_columns <- function() {
  sleepstudy$w <- 1 + sleepstudy$Days / 10
  sleepstudy$off <- 5 * sqrt(sleepstudy$Days)
  sleepstudy$Days2 <- 2 * sleepstudy$Days
  sleepstudy$half <- factor(ifelse(sleepstudy$Days < 5, "early", "late"))
  sleepstudy
}

with_gaps <- function() {
  sleepstudy$Reaction[c(3, 50)] <- NA
  sleepstudy$Days[100] <- NA
  sleepstudy$Subject[150] <- NA
  sleepstudy
}

# Intercepts and slopes lie on one line, the noise is smaller than its own sampling would make it: correlation 1.
singular_slope <- function() {
  d <- data.frame(g = rep(letters[1:8], each = 5), x = rep(0:4, 8))
  k <- match(d$g, letters)
  line <- c(-1.5, 0.7, 1.9, -0.4, 0.2, -1.1, 1.3, -0.9)[k]
  d$y <- round(10 + 2 * d$x + line * (2 + 0.5 * d$x) + 0.8 * sin(seq_len(nrow(d))^2), 4)
  d$g <- factor(d$g)
  d
}

cake$temperature <- factor(as.character(cake$temperature)) # unordered: treatment contrasts, as for text or C(...)
DATA <- list(
  sleepstudy = with_columns(), sleepstudy_gaps = with_gaps(), singular_slope = singular_slope(),
  Dyestuff = Dyestuff, Dyestuff2 = Dyestuff2, Penicillin = Penicillin, Pastes = Pastes, cake = cake,
  cake_empty_cell = subset(cake, !(recipe == "B" & temperature == "185"))
)

# ---- models: name = list(formula, data, further arguments); `python` where the formula is spelt otherwise -------

MODELS <- list(
  sleepstudy_slope = list("Reaction ~ Days + (Days|Subject)", "sleepstudy"),
  sleepstudy_intercept = list("Reaction ~ Days + (1|Subject)", "sleepstudy"),
  sleepstudy_double_bar = list("Reaction ~ Days + (Days||Subject)", "sleepstudy"),
  sleepstudy_slope_only = list("Reaction ~ Days + (0+Days|Subject)", "sleepstudy"),
  sleepstudy_weights = list("Reaction ~ Days + (Days|Subject)", "sleepstudy", weights = "w"),
  sleepstudy_offset = list("Reaction ~ Days + offset(off) + (Days|Subject)", "sleepstudy"),
  sleepstudy_subset = list("Reaction ~ Days + (Days|Subject)", "sleepstudy", subset = "Days > 1"),
  sleepstudy_poly = list("Reaction ~ poly(Days, 2) + (1|Subject)", "sleepstudy"),
  sleepstudy_aliased = list("Reaction ~ Days + Days2 + (Days|Subject)", "sleepstudy"),
  sleepstudy_gaps = list("Reaction ~ Days + (Days|Subject)", "sleepstudy_gaps"),
  dyestuff = list("Yield ~ 1 + (1|Batch)", "Dyestuff"),
  dyestuff2 = list("Yield ~ 1 + (1|Batch)", "Dyestuff2"),
  penicillin = list("diameter ~ 1 + (1|plate) + (1|sample)", "Penicillin"),
  pastes_nested = list("strength ~ 1 + (1|batch/cask)", "Pastes"),
  pastes_interaction = list("strength ~ 1 + (1|batch:cask)", "Pastes"),
  cake_factorial = list("angle ~ recipe * C(temperature) + (1|recipe:replicate)", "cake"),
  cake_linear = list("angle ~ recipe + temp + (1|recipe:replicate)", "cake"),
  cake_sum = list("angle ~ recipe + temp + (1|recipe:replicate)", "cake",
    contrasts = list(recipe = "contr.sum"),
    python = "angle ~ C(recipe, contr.sum) + temp + (1|recipe:replicate)"
  ),
  cake_empty_cell = list("angle ~ recipe * C(temperature) + (1|recipe:replicate)", "cake_empty_cell"),
  singular_slope = list("y ~ x + (x|g)", "singular_slope")
)

# Names as formulaic writes them.
python_names <- function(names) {
  names <- sub("^\\(Intercept\\)$", "Intercept", names)
  names <- gsub("recipe([ABC])", "recipe[T.\\1]", names)
  names <- gsub("C\\(temperature\\)([0-9]+)", "C(temperature)[T.\\1]", names)
  names <- gsub("poly\\(Days, 2\\)([0-9])", "poly(Days, 2)[\\1]", names)
  names <- sub("^recipe1$", "C(recipe, contr.sum)[S.A]", names)
  sub("^recipe2$", "C(recipe, contr.sum)[S.B]", names)
}

# ---- fitting --------------------------------------------------------------------------------------------------

polish <- function(devfun, theta, free) {
  along <- function(part) devfun(replace(theta, free, part))
  for (step in 1:4) {
    gradient <- numDeriv::grad(along, theta[free])
    theta[free] <- theta[free] - solve(numDeriv::hessian(along, theta[free]), gradient)
  }
  theta
}

fit_lme4 <- function(model, reml) {
  data <- DATA[[model[[2]]]]
  if (!is.null(model$subset)) data <- subset(data, eval(str2lang(model$subset), data))
  arguments <- list(as.formula(model[[1]]), data = data, REML = reml, contrasts = model$contrasts)
  if (!is.null(model$weights)) arguments$weights <- data[[model$weights]]
  arguments$control <- lmerControl(check.rankX = "silent.drop.cols", check.conv.singular = "ignore")
  parsed <- suppressWarnings(do.call(lFormula, arguments))
  devfun <- do.call(mkLmerDevfun, c(parsed, list(start = NULL, verbose = 0, control = arguments$control)))
  opt <- suppressWarnings(optimizeLmer(devfun,
    optimizer = "bobyqa", control = list(rhoend = 1e-9, maxfun = 1e5),
    calc.derivs = FALSE, restart_edge = TRUE, boundary.tol = 1e-5
  ))
  bound <- environment(devfun)$lower == 0 & opt$par < BOUNDARY
  theta <- replace(opt$par, bound, 0)
  if (any(!bound)) theta <- polish(devfun, theta, which(!bound))
  fval <- devfun(theta)
  stopifnot(fval <= opt$fval + 1e-7)
  mkMerMod(environment(devfun), list(par = theta, fval = fval, conv = 0, message = NULL), parsed$reTrms, fr = parsed$fr)
}

# ---- what is frozen -------------------------------------------------------------------------------------------

matrix_rows <- function(m) lapply(seq_len(nrow(m)), function(i) I(unname(as.numeric(m[i, ]))))

random_effects <- function(fit) {
  lapply(ranef(fit, condVar = TRUE), function(frame) {
    variance <- attr(frame, "postVar")
    if (is.list(variance)) { # (x||g): one array per term
      blocks <- lapply(seq_len(nrow(frame)), function(i) diag(vapply(variance, function(v) v[1, 1, i], 0)))
    } else {
      blocks <- lapply(seq_len(nrow(frame)), function(i) as.matrix(variance[, , i]))
    }
    list(
      levels = I(rownames(frame)), effects = I(sub("(Intercept)", "Intercept", colnames(frame), fixed = TRUE)),
      values = matrix_rows(frame), cond_var = lapply(blocks, matrix_rows)
    )
  })
}

frozen_lme4 <- function(name, model, reml) {
  fit <- fit_lme4(model, reml)
  V <- as.matrix(vcov(fit))
  components <- as.data.frame(VarCorr(fit))
  for (column in c("var1", "var2")) components[[column]] <- sub("(Intercept)", "Intercept", components[[column]], fixed = TRUE)
  out <- list(
    model = name, formula = if (is.null(model$python)) model[[1]] else model$python, formula_r = model[[1]],
    data = model[[2]], weights = model$weights, subset = model$subset, method = if (reml) "reml" else "ml",
    criterion = if (reml) REMLcrit(fit) else deviance(fit), llf = as.numeric(logLik(fit)), aic = AIC(fit),
    bic = BIC(fit), npar = attr(logLik(fit), "df"), nobs = nobs(fit),
    fixef_names = I(python_names(names(fixef(fit)))), fixef_names_r = I(names(fixef(fit))),
    fixef = I(unname(fixef(fit))), vcov = matrix_rows(V),
    correlation = if (nrow(V) <= LARGE_P) matrix_rows(cov2cor(V)),
    varcomp = components, theta = I(unname(getME(fit, "theta"))), theta_names = I(names(getME(fit, "theta"))),
    singular = isSingular(fit, tol = 1e-5), fitted_first = I(unname(head(fitted(fit), 5))),
    scaled_residual_quantiles = I(unname(quantile(residuals(fit, "pearson", scaled = TRUE))))
  )
  if (reml) out$ranef <- random_effects(fit)
  Filter(Negate(is.null), out)
}

# ---- nlme: structured residuals -------------------------------------------------------------------------------

TIGHT <- lmeControl(
  maxIter = 500, msMaxIter = 2000, niterEM = 50, tolerance = 1e-13, msTol = 1e-15, returnObject = FALSE,
  msMaxEval = 1e5
)

NLME <- list(
  residual_diag = list(
    random = ~ Days | Subject, bars = "(Days|Subject)", residual = "diag(half)", weights = varIdent(form = ~ 1 | half)
  ),
  residual_diag_intercept = list(
    random = ~ 1 | Subject, bars = "(1|Subject)", residual = "diag(half)", weights = varIdent(form = ~ 1 | half)
  ),
  residual_exp = list(
    random = ~ 1 | Subject, bars = "(1|Subject)", residual = "exp(Days)", weights = varExp(form = ~Days)
  ),
  residual_ar1 = list(
    random = ~ 1 | Subject, bars = "(1|Subject)", residual = "ar1(Days|Subject)",
    correlation = corAR1(form = ~ Days | Subject)
  )
)

# Residual parameters on the scale of variances: per stratum; (log level, slope) of log Var(e); or (variance, rho).
residual_parameters <- function(fit, residual) {
  structure <- fit$modelStruct
  if (residual == "diag(half)") {
    ratio <- coef(structure$varStruct, unconstrained = FALSE, allCoef = TRUE)
    return(list(strata = I(names(ratio)), sigma = I(unname(fit$sigma * ratio)), variance = I(unname((fit$sigma * ratio)^2))))
  }
  if (residual == "exp(Days)") {
    return(list(log_level = 2 * log(fit$sigma), slope = 2 * unname(coef(structure$varStruct))))
  }
  list(variance = fit$sigma^2, rho = unname(coef(structure$corStruct, unconstrained = FALSE)))
}

frozen_nlme <- function(name, model, method) {
  fit <- lme(Reaction ~ Days,
    random = model$random, data = DATA$sleepstudy, weights = model$weights,
    correlation = model$correlation, method = method, control = TIGHT
  )
  G <- as.matrix(getVarCov(fit))
  list(
    model = name, formula = paste("Reaction ~ Days +", model$bars), data = "sleepstudy", residual = model$residual,
    method = tolower(method), llf = as.numeric(logLik(fit)), npar = attr(logLik(fit), "df"), nobs = fit$dims$N,
    fixef_names = I(python_names(names(nlme::fixef(fit)))), fixef = I(unname(nlme::fixef(fit))),
    # Under ML, lme scales this matrix by n / (n - p) in print only: varFix is the bare (X'V^-1 X)^-1.
    vcov = matrix_rows(fit$varFix), random_effects = I(sub("(Intercept)", "Intercept", rownames(G), fixed = TRUE)),
    random_sd = I(unname(sqrt(diag(G)))), random_covariance = matrix_rows(G),
    residual_parameters = residual_parameters(fit, model$residual)
  )
}

# ---- output ---------------------------------------------------------------------------------------------------

both <- function(frozen, models, methods) {
  do.call(c, lapply(names(models), function(name) lapply(methods, function(m) frozen(name, models[[name]], m))))
}

packages <- c("lme4", "nlme", "Matrix", "numDeriv")
out <- list(
  versions = c(
    list(R = paste(R.version$major, R.version$minor, sep = ".")),
    sapply(packages, function(p) as.character(packageVersion(p)), simplify = FALSE)
  ),
  data = list(singular_slope = as.list(DATA$singular_slope)),
  gaps = list(Reaction = c(3, 50), Days = I(100), Subject = I(150)),
  lme4 = both(frozen_lme4, MODELS, c(TRUE, FALSE)),
  nlme = both(frozen_nlme, NLME, c("REML", "ML"))
)
cat(toJSON(out, digits = I(DIGITS), auto_unbox = TRUE, null = "null", na = "null"), "\n")
