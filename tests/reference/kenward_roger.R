# Kenward and Roger's tests in a 100 x 60 crossed layout of 1,000 records.
# Run in this directory:
#   python -m tests.crossed_layout 1000 /tmp/crossed.csv   (in the root of the project)
#   Rscript kenward_roger.R /tmp/crossed.csv > kenward_roger.json

suppressPackageStartupMessages({
  library(lme4)
  library(pbkrtest)
  library(jsonlite)
})
data <- read.csv(commandArgs(TRUE)[1])
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-10, maxfun = 1e5), calc.derivs = FALSE
)
fit <- lmer(y ~ t + x + (1 | row) + (1 | col), data, control = tight)
rows <- lapply(list(t = y ~ x + (1 | row) + (1 | col), x = y ~ t + (1 | row) + (1 | col)), function(smaller) {
  test <- KRmodcomp(fit, lmer(smaller, data, control = tight))$test["Ftest", ]
  list(f = test$stat, df = test$ddf, p = test$p.value)
})
cat(toJSON(list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
    pbkrtest = as.character(packageVersion("pbkrtest"))),
  vcov = as.matrix(vcovAdj(fit)), tests = rows
), auto_unbox = TRUE, digits = 12))
