"""The two contracts that the settings name, bound once per service and checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass

from hessian.chain.client import Chain
from hessian.chain.deployment import ModelDeployment
from hessian.chain.encoding import ContractRefused, Undecodable
from hessian.chain.repository import ModelRepository
from hessian.identifiers import Address
from hessian.settings import BadSettings, ChainSettings


class ContractsUnrelated(BadSettings):
    """The two contracts of the settings do not belong together."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """Training and serving."""

    repository: ModelRepository
    deployment: ModelDeployment


async def bind_contracts(chain: Chain, settings: ChainSettings) -> Contracts:
    """Both, at the addresses of the settings. Raises ContractsUnrelated, ChainUnavailable.

    A serving contract takes the word of the repository it was made with on who lent and what is trained: with another repository a node
    would pay fees for models that nobody trained.
    """
    repository = ModelRepository(chain, Address(settings.repository_address))
    deployment = ModelDeployment(chain, Address(settings.deployment_address))
    try:
        served = await deployment.repository(await chain.head_block())
    except (ContractRefused, Undecodable) as error:
        raise ContractsUnrelated(f"the contract at HESSIAN_DEPLOYMENT_ADDRESS {deployment.address} is no ModelDeployment") from error
    if served != repository.address:
        raise ContractsUnrelated(
            f"the ModelDeployment at {deployment.address} serves the models of {served}, "
            f"HESSIAN_REPOSITORY_ADDRESS names {repository.address}"
        )
    return Contracts(repository, deployment)
