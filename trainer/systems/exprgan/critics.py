"""What ExprGAN's critics learn, and what they say of made faces.

Shapes as in `system.py`; F features of the image critic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from trainer.losses.adversarial import logistic, masked_mean
from trainer.system import Mean, StepContext
from trainer.systems.exprgan import losses
from trainer.systems.exprgan.config import ViewConfig
from trainer.systems.exprgan.losses import Draft
from trainer.systems.exprgan.nets import Critic, LatentCritic
from trainer.systems.exprgan.views import seen

Terms = Mapping[str, Tensor | Mean]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Critics:
    """D_img with Q, which also reads expression codes, and D_z, over the same networks as players.

    `zero_class` is the class whose expression code is 0, if any.
    """

    view: ViewConfig
    image: Critic
    latent: LatentCritic
    num_classes: int
    zero_class: int | None

    def one_hot(self, class_B: Tensor, like: Tensor) -> Tensor:
        """Classes as [B, K], of the type of `like`."""
        return functional.one_hot(class_B, self.num_classes).to(like.dtype)

    def judged(self, ctx: StepContext, draft: Draft, made_BCHW: Tensor) -> dict[str, Tensor | Mean]:
        """What D_img and Q, which stand still, say of the made faces."""
        terms: dict[str, Tensor | Mean] = {}
        if not ctx.wanted.intersection(("expression_code", "adversarial_image", "edit_class")):
            return terms
        reading, judging = self.image.reading, self.image.judging
        class_BK = self.one_hot(draft.class_B, made_BCHW)
        training = reading.training
        reading.train(
            training and reading.classes is None
        )  # to read is to know what faces are like
        features_BF = self._read(ctx, made_BCHW, class_BK, "made")
        reading.train(training)
        if "expression_code" in ctx.wanted:
            read_BE = judging.code(features_BF)
            terms["expression_code"] = losses.code_error(read_BE, draft.code_BE, self.num_classes)
        if "adversarial_image" in ctx.wanted:
            terms["adversarial_image"] = logistic(judging.scores(features_BF, class_BK), 1.0)
        if "edit_class" in ctx.wanted:
            assert reading.classes is not None
            terms["edit_class"] = losses.class_error(
                reading.classes(features_BF), draft.class_B, draft.intensity_B, self.zero_class
            )
        return terms

    def image_loss(self, ctx: StepContext) -> Terms:
        """The terms of D_img and Q."""
        draft: Draft = ctx.shared
        batch, terms = ctx.batch, {}
        reading, judging = self.image.reading, self.image.judging
        own_BK = self.one_hot(batch.expression_B, batch.faces_BCHW)
        if ctx.wanted.intersection(("critic", "critic_class", "critic_mismatch")):
            real_BF = self._read(ctx, batch.faces_BCHW, own_BK, "real")
        if ctx.wanted.intersection(("critic", "expression_code_critic")):
            made_BK = self.one_hot(draft.class_B, batch.faces_BCHW)
            made_BF = self._read(ctx, draft.made_BCHW, made_BK, "made")
        if "critic" in ctx.wanted:
            terms["critic"] = losses.told_apart(
                judging.scores(real_BF, own_BK), judging.scores(made_BF, made_BK)
            )
        if "expression_code_critic" in ctx.wanted:
            read_BE = judging.code(made_BF)
            terms["expression_code_critic"] = losses.code_error(
                read_BE, draft.code_BE, self.num_classes
            )
        if "critic_class" in ctx.wanted:
            assert reading.classes is not None
            terms["critic_class"] = masked_mean(
                functional.cross_entropy(
                    reading.classes(real_BF), batch.expression_B, reduction="none"
                )
            )
        if "critic_mismatch" in ctx.wanted:
            terms["critic_mismatch"] = self._mismatch(ctx, real_BF)
        return terms

    def _mismatch(self, ctx: StepContext, real_BF: Tensor) -> Mean:
        """Real faces under the plan's target class: fake, where that is not their own."""
        batch = ctx.batch
        wrong_BK = self.one_hot(batch.target_expression_B, real_BF)
        if self.image.reading.joins:
            real_BF = self._read(ctx, batch.faces_BCHW, wrong_BK, "wrong")
        scores_B = self.image.judging.scores(real_BF, wrong_BK)
        return logistic(scores_B, 0.0, batch.target_expression_B != batch.expression_B)

    def latent_loss(self, ctx: StepContext) -> Terms:
        """The term of D_z: codes of faces against the uniform prior."""
        latent_BZ = ctx.shared.latent_BZ
        prior_BZ = ctx.noise("prior", tuple(latent_BZ.shape), uniform=True)
        scores = self.latent(prior_BZ), self.latent(latent_BZ)
        return {"latent_critic": losses.told_apart(*scores)}

    def _read(self, ctx: StepContext, faces_BCHW: Tensor, class_BK: Tensor, name: str) -> Tensor:
        """The critic's features of faces, as it sees them in this turn."""
        config, num_faces = self.view, len(faces_BCHW)

        def noise(label: str, shape: tuple[int, ...], *, uniform: bool = False) -> Tensor:
            assert shape[0] == num_faces
            return ctx.noise(f"{label}/{name}", shape, uniform=uniform)

        return self.image.reading(seen(config, faces_BCHW, noise), class_BK)
