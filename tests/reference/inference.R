# Frozen tests of fixed and random effects by lmerTest, pbkrtest and emmeans.
# Run in this directory: Rscript inference.R > inference.json
#
# Each fit is polished by Newton steps on Richardson-extrapolated derivatives of lme4's deviance function, and lmerTest
# then starts and stops there: its degrees of freedom move with theta to first order.

suppressPackageStartupMessages({
  library(lmerTest)
  library(pbkrtest)
  library(emmeans)
  library(jsonlite)
})
options(contrasts = c("contr.treatment", "contr.poly"))
emm_options(lmer.df = "satterthwaite", msg.interaction = FALSE)

DIGITS <- 12
BOUNDARY <- 1e-6

# ---- data -----------------------------------------------------------------------------------------------------

GONE <- c(1, 2, 3, 16, 17, 18, 19, 51, 52, 101, 102, 103, 104, 105, 171, 172) # rows of sleepstudy, from 1
cake$temperature <- factor(as.character(cake$temperature))
EVERY <- 7 # each seventh row of cake, from the first, is left out of cake_unbalanced

# An unbalanced crossed layout: 15 rows by 10 columns, three treatments, one covariate; every number is a formula.
crossed <- function() {
  i <- 1:140
  d <- data.frame(a = (i * i) %% 15, b = (7 * i + i %/% 9) %% 10, t = c("u", "v", "w")[1 + (i * i + i %/% 4) %% 3])
  d$x <- round(2 * sin(3 * i), 3)
  d$y <- round(10 + 3 * sin(7 * d$a) + 2 * cos(5 * d$b) + (d$t == "v") + 0.4 * d$x + 1.5 * sin(i^2), 3)
  d
}

# As in lme4.R: intercepts and slopes correlate at 1.
singular_slope <- function() {
  d <- data.frame(g = rep(letters[1:8], each = 5), x = rep(0:4, 8))
  line <- c(-1.5, 0.7, 1.9, -0.4, 0.2, -1.1, 1.3, -0.9)[match(d$g, letters)]
  d$y <- round(10 + 2 * d$x + line * (2 + 0.5 * d$x) + 0.8 * sin(seq_len(nrow(d))^2), 4)
  d
}

unbalanced <- cake[-seq(1, nrow(cake), by = EVERY), ]
DATA <- list(
  sleepstudy = sleepstudy, sleepstudy_unbalanced = sleepstudy[-GONE, ], Penicillin = Penicillin, Pastes = Pastes,
  Dyestuff2 = Dyestuff2, cake = cake, cake_unbalanced = unbalanced,
  cake_empty_cell = subset(unbalanced, !(recipe == "B" & temperature == "185")), crossed = crossed(),
  singular_slope = singular_slope()
)

# formula, data, factors to average over and, where a mean is wanted at a value of a covariate, `at`
MODELS <- list(
  sleepstudy = list("Reaction ~ Days + (Days|Subject)", "sleepstudy"),
  sleepstudy_unbalanced = list("Reaction ~ Days + (Days|Subject)", "sleepstudy_unbalanced"),
  penicillin = list("diameter ~ 1 + (1|plate) + (1|sample)", "Penicillin"),
  pastes = list("strength ~ 1 + (1|batch/cask)", "Pastes"),
  dyestuff2 = list("Yield ~ 1 + (1|Batch)", "Dyestuff2"),
  cake = list("angle ~ recipe * temperature + (1|recipe:replicate)", "cake", "recipe"),
  cake_unbalanced = list("angle ~ recipe * temperature + (1|recipe:replicate)", "cake_unbalanced", "recipe"),
  cake_covariate = list("angle ~ recipe * temp + (1|recipe:replicate)", "cake_unbalanced", "recipe", list(temp = 180)),
  cake_empty_cell = list("angle ~ recipe * temperature + (1|recipe:replicate)", "cake_empty_cell", "recipe"),
  crossed = list("y ~ t * x + (1|a) + (1|b)", "crossed", "t"),
  crossed_additive = list("y ~ t + x + (1|a) + (1|b)", "crossed", "t"),
  singular_slope = list("y ~ x + (x|g)", "singular_slope")
)

# ---- fitting --------------------------------------------------------------------------------------------------

polished_theta <- function(arguments) {
  parsed <- do.call(lFormula, arguments)
  devfun <- do.call(mkLmerDevfun, c(parsed, list(start = NULL, verbose = 0, control = arguments$control)))
  opt <- optimizeLmer(devfun, optimizer = "bobyqa", control = list(rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE)
  bound <- environment(devfun)$lower == 0 & opt$par < BOUNDARY
  theta <- replace(opt$par, bound, 0)
  free <- which(!bound)
  along <- function(part) devfun(replace(theta, free, part))
  if (length(free)) {
    for (step in 1:4) {
      theta[free] <- theta[free] - solve(numDeriv::hessian(along, theta[free]), numDeriv::grad(along, theta[free]))
    }
  }
  theta
}

fit_model <- function(model, reml) {
  control <- lmerControl(check.rankX = "silent.drop.cols", check.conv.singular = "ignore")
  arguments <- list(as.formula(model[[1]]), data = DATA[[model[[2]]]], REML = reml, control = control)
  theta <- polished_theta(arguments)
  arguments$control <- lmerControl(optimizer = NULL, check.rankX = "silent.drop.cols", check.conv.singular = "ignore")
  do.call(lmerTest::lmer, c(arguments, list(start = list(theta = theta))))
}

# ---- what is frozen -------------------------------------------------------------------------------------------

rows <- function(m) lapply(seq_len(nrow(m)), function(i) I(unname(as.numeric(m[i, ]))))
table_rows <- function(frame) list(rows = I(rownames(frame)), values = rows(as.matrix(frame)))

python_names <- function(names) {
  names <- sub("^\\(Intercept\\)$", "Intercept", names)
  names <- gsub("recipe([ABC])", "recipe[T.\\1]", names)
  names <- gsub("temperature([0-9]+)", "temperature[T.\\1]", names)
  gsub("(^|:)t([vw])", "\\1t[T.\\2]", names)
}

means_of <- function(fit, model) {
  at <- if (length(model) > 3) model[[4]]
  means <- function(...) emmeans(fit, model[[3]], at = at, ...)
  satterthwaite <- means()
  number <- function(frame) rows(as.matrix(frame[sapply(frame, is.numeric)]))
  pairs_by <- function(adjust) number(as.data.frame(summary(pairs(satterthwaite), infer = TRUE, adjust = adjust)))
  adjustments <- c("tukey", "holm", "bonferroni", "sidak", "none")
  list(
    factor = model[[3]], at = at, satterthwaite = number(as.data.frame(satterthwaite)),
    kenward_roger = number(as.data.frame(means(lmer.df = "kenward-roger"))),
    proportional = number(as.data.frame(means(weights = "proportional"))),
    cells = number(as.data.frame(means(weights = "cells"))),
    pairs = sapply(adjustments, pairs_by, simplify = FALSE),
    poly = number(as.data.frame(summary(contrast(satterthwaite, "poly"), infer = TRUE)))
  )
}

frozen <- function(name, model, reml) {
  fit <- fit_model(model, reml)
  out <- list(
    model = name, formula = model[[1]], data = model[[2]], method = if (reml) "reml" else "ml",
    names = I(python_names(names(fixef(fit)))), coefficients = rows(coef(summary(fit)))
  )
  p <- length(fixef(fit))
  slopes <- diag(p)[-1, , drop = FALSE]
  if (p > 1) {
    types <- c("1", "2", "3")
    quiet <- function(x) suppressMessages(x)
    out$anova <- sapply(types, function(k) quiet(table_rows(anova(fit, type = k))), simplify = FALSE)
    out$drop1 <- quiet(table_rows(drop1(fit)))
    out$contest <- I(as.numeric(contest(fit, slopes)))
  }
  if (!reml) return(out)
  V <- vcovAdj(fit)
  out$kenward_roger <- rows(coef(summary(fit, ddf = "Kenward-Roger")))
  out$kenward_roger_vcov <- rows(as.matrix(V))
  if (p > 1) {
    out$kenward_roger_anova <- sapply(
      types, function(k) quiet(table_rows(anova(fit, type = k, ddf = "Kenward-Roger"))),
      simplify = FALSE
    )
    out$kenward_roger_contest <- I(as.numeric(contest(fit, slopes, ddf = "Kenward-Roger")))
  }
  if (length(model) > 2 && name != "cake_empty_cell") out$means <- means_of(fit, model)
  # fits of its own, by the default optimiser
  fresh <- do.call(lmerTest::lmer, list(as.formula(model[[1]]), data = DATA[[model[[2]]]]))
  out$ranova <- table_rows(ranova(fresh))
  out
}

# ---- output ---------------------------------------------------------------------------------------------------

packages <- c("lme4", "lmerTest", "pbkrtest", "emmeans", "Matrix", "numDeriv")
versions <- c(
  list(R = paste(R.version$major, R.version$minor, sep = ".")),
  sapply(packages, function(p) as.character(packageVersion(p)), simplify = FALSE)
)
fits <- do.call(c, lapply(names(MODELS), function(name) {
  lapply(c(TRUE, FALSE), function(reml) suppressWarnings(suppressMessages(frozen(name, MODELS[[name]], reml))))
}))
out <- list(
  versions = versions, gone = GONE, every = EVERY,
  data = list(crossed = as.list(DATA$crossed), singular_slope = as.list(DATA$singular_slope)), fits = fits
)
cat(toJSON(out, digits = I(DIGITS), auto_unbox = TRUE, null = "null", na = "null"), "\n")
